"""Runs a command inside user-mode-linux, a Linux that has netem and cgroup v2 and runs as an ordinary program.

    python tools/netem/boot.py [--timeout SECONDS] [--memory MIB] COMMAND [ARGUMENT …]

For machines whose own kernel lacks what a test needs. Inside, the command sees this machine's files (what it changes
is changed in memory only, and lost), is root, and works in the present directory. Its output comes through as it
comes, and its exit status is this program's; 125: it did not run, or not to its end. Needs Debian's package user-
mode-linux, on a processor with AMX also gcc and libc6-dev, and no root. There is one processor, and system calls are
some 60 times slower than outside: use it to find out whether something is right, not how fast it is.
"""

import argparse
import contextlib
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO

PROGRAM = "linux.uml"
INIT = Path(__file__).with_name("init.py")
REGISTERS = Path(__file__).with_name("registers.c")
FAILED = 125
SETTINGS = ("LANG", "LC_ALL", "COLUMNS", "EDGEEMU_DEBUG")  # that the command gets from our environment


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--timeout", type=float, default=1800, metavar="SECONDS", help="time limit (1800)")
    parser.add_argument("--memory", type=int, default=2048, metavar="MIB", help="memory of the machine inside (2048)")
    parser.add_argument("command", nargs=argparse.REMAINDER, metavar="COMMAND", help="what to run, and its arguments")
    asked = parser.parse_args()
    if not asked.command:
        parser.error("name the command to run")
    if not (program := shutil.which(PROGRAM)):
        print(f"{PROGRAM} is not here; on Debian, as root: apt-get install user-mode-linux", file=sys.stderr)
        return FAILED
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup and background jobs set it
            signal.signal(number, lambda number, _: sys.exit(128 + number))
    with tempfile.TemporaryFile() as log:  # what the kernel says: of interest if it fails
        try:
            return run(program, asked.command, asked.memory << 20, asked.timeout, log)
        except NoStatusError as error:
            log.seek(0)
            sys.stderr.buffer.write(b"".join(log.readlines()[-60:]))
            print(f"{shlex.join(asked.command)}: {error}; above, what {PROGRAM} said last", file=sys.stderr)
            return FAILED


class NoStatusError(Exception):
    """The machine inside ended, or had to be ended, before the command did."""


def run(program: str, command: list[str], memory_bytes: int, timeout_s: float, log: IO[bytes]) -> int:
    """The exit status of the command."""
    directory = Path(tempfile.mkdtemp(prefix="uml-"))
    (directory / "job.json").write_text(json.dumps(job(command)))
    init = directory / "init"
    init.write_text(f"#!/bin/sh\nexec {shlex.join([sys.executable, str(INIT), str(directory)])}\n")
    init.chmod(0o700)
    output, output_in = os.pipe()
    result, result_in = os.pipe()
    arguments = [f"mem={memory_bytes >> 20}M", "rootfstype=hostfs", "rootflags=/", "ro", f"init={init}"]
    arguments += [f"uml_dir={directory}/", "panic=-1", "con=null", f"con0=null,fd:{log.fileno()}"]
    arguments += [f"con1=null,fd:{output_in}", f"con2=null,fd:{result_in}"]
    settings = {"PATH": os.defpath, "HOME": str(directory), "TMPDIR": memory_directory(memory_bytes)}
    machine = subprocess.Popen(
        [program, *arguments],
        env=settings | registers(directory),
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        pass_fds=(log.fileno(), output_in, result_in),
        start_new_session=True,
    )
    with cleared_away(machine.pid, directory):
        os.close(output_in)
        os.close(result_in)
        limit = threading.Timer(timeout_s, os.killpg, (machine.pid, signal.SIGKILL))
        limit.daemon = True
        limit.start()
        while text := os.read(output, 1 << 16):
            sys.stdout.buffer.write(text)
            sys.stdout.buffer.flush()
        machine.wait()
        in_time = limit.is_alive()
        limit.cancel()
        if said := os.read(result, 16):
            return int(said)
    raise NoStatusError("the machine inside stopped before it" if in_time else f"took longer than {timeout_s:g} s")


def registers(directory: Path) -> dict[str, str]:
    """Settings with which the program knows all registers of a processor with tiles (AMX): see registers.c."""
    cpuinfo = Path("/proc/cpuinfo")
    if not cpuinfo.exists() or " amx_tile " not in cpuinfo.read_text():
        return {}
    library = directory / "registers.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", library, REGISTERS, "-ldl"], check=True)
    return {"LD_PRELOAD": str(library)}


@contextlib.contextmanager
def cleared_away(group: int, directory: Path) -> Iterator[None]:
    """At the end, the processes of the group and the directory are gone: even if this process is killed."""
    script = 'read -r end; kill -KILL "-$0" 2>/dev/null; rm -rf "$1"'  # reading ends when we do
    with subprocess.Popen(
        ["/bin/sh", "-c", script, str(group), str(directory)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    ):
        yield


def job(command: list[str]) -> dict[str, object]:
    """Job description that init.py reads."""
    settings = {name: os.environ[name] for name in SETTINGS if name in os.environ}
    settings.setdefault("COLUMNS", str(shutil.get_terminal_size((120, 24)).columns))
    return {"command": command, "directory": str(Path.cwd()), "path": os.environ["PATH"], "settings": settings}


def memory_directory(memory_bytes: int) -> str:
    """Where the machine's memory is, as a file without a name: in memory, if there is so much."""
    shared = "/dev/shm"
    try:
        state = os.statvfs(shared)
    except FileNotFoundError:
        return tempfile.gettempdir()
    fits = state.f_bavail * state.f_frsize >= memory_bytes and not state.f_flag & os.ST_NOEXEC
    return shared if fits else tempfile.gettempdir()


if __name__ == "__main__":
    sys.exit(main())
