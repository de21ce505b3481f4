"""The first process inside user-mode-linux, started by boot.py: makes a usable machine, runs the job, powers off.

Knows what a fresh kernel lacks: mounts, modules, control groups, the loopback interface. Knows nothing of tests.
"""

import contextlib
import ctypes
import json
import os
import platform
import socket
import subprocess
import sys
import termios
import traceback
import tty
from pathlib import Path

# Modules for emulated networks. What one needs in turn is in modules.dep.
MODULES = (
    *("overlay", "dummy", "veth", "bridge", "ifb", "macvlan", "vxlan", "tun"),
    *("sch_netem", "sch_htb", "sch_tbf", "sch_prio", "sch_sfq", "sch_fq", "sch_fq_codel", "sch_ingress"),
    *("cls_u32", "cls_flower", "cls_matchall", "cls_bpf", "act_mirred", "tcp_bbr", "tcp_cubic"),
)
FINIT_MODULE = {"x86_64": 313, "i686": 350}  # system call numbers: asm/unistd_64.h, asm/unistd_32.h
POWER_OFF = 0x4321FEDC  # linux/reboot.h
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
COMMAND_NOT_FOUND = 127
PATIENCE_S = 5

libc = ctypes.CDLL(None, use_errno=True)


def main() -> None:
    os.environ["PATH"] = PATH
    job = json.loads((Path(sys.argv[1]) / "job.json").read_text())
    mount("proc", "/proc")
    load_modules(Path("/usr/lib/uml/modules") / platform.release())
    change_root()
    mount("proc", "/proc")
    mount("sysfs", "/sys")
    mount("devtmpfs", "/dev")
    for directory in ("/dev/pts", "/dev/shm"):
        Path(directory).mkdir(exist_ok=True)
    mount("devpts", "/dev/pts", "ptmxmode=666")
    mount("tmpfs", "/dev/shm", "mode=1777")
    mount("tmpfs", "/run", "mode=755")
    mount("cgroup2", "/sys/fs/cgroup")
    controllers = Path("/sys/fs/cgroup/cgroup.controllers").read_text().split()
    Path("/sys/fs/cgroup/cgroup.subtree_control").write_text(" ".join(f"+{name}" for name in controllers))
    socket.sethostname("uml")
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    output, result = terminal("/dev/tty1"), terminal("/dev/tty2")
    status = run(job, output)
    termios.tcdrain(output)
    os.write(result, str(status).encode())
    termios.tcdrain(result)


def mount(kind: str, directory: str, options: str = "") -> None:
    if libc.mount(kind.encode(), directory.encode(), kind.encode(), 0, options.encode()):
        raise OSError(ctypes.get_errno(), f"mount {kind} ({options}): {os.strerror(ctypes.get_errno())}", directory)


def load_modules(directory: Path) -> None:
    """There is no modprobe for these modules: a line of modules.dep names a module and, last first, what it needs."""
    needs = {}
    for line in (directory / "modules.dep").read_text().splitlines():
        path, _, before = line.partition(":")
        needs[Path(path).stem] = [*reversed(before.split()), path]
    loaded = set()
    for name in MODULES:
        for path in needs.get(name, []):  # what has no line is in the kernel itself, or not to be had
            if path not in loaded:
                load_module(directory / path)
                loaded.add(path)


def load_module(path: Path) -> None:
    with path.open("rb") as file:
        if libc.syscall(FINIT_MODULE[platform.machine()], file.fileno(), b"", 0):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(path))


def change_root() -> None:
    """Makes / the host's files, read only, with all changes laid over them in memory."""
    mount("tmpfs", "/mnt")
    for name in ("changes", "work", "root"):
        Path("/mnt", name).mkdir()
    mount("overlay", "/mnt/root", "lowerdir=/,upperdir=/mnt/changes,workdir=/mnt/work")
    # Not chroot: user namespaces could not be made then. "pivot_root . ." is the example of pivot_root(2).
    os.chdir("/mnt/root")
    subprocess.run(["pivot_root", ".", "."], check=True)
    subprocess.run(["umount", "--lazy", "."], check=True)
    os.chdir("/")


def terminal(path: str) -> int:
    """Opens a console that passes bytes on as they are."""
    descriptor = os.open(path, os.O_RDWR | os.O_NOCTTY)
    tty.setraw(descriptor)
    return descriptor


def run(job: dict[str, object], output: int) -> int:
    """The job's exit status, as a shell gives it. Reaps what it leaves, as a first process must."""
    environment = {"PATH": f"{job['path']}:{PATH}", "HOME": "/root", "PYTHONDONTWRITEBYTECODE": "1"}
    passing_on = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=output)  # the job must not see a terminal
    try:
        process = subprocess.Popen(
            job["command"],
            cwd=job["directory"],
            env=environment | job["settings"],
            stdin=subprocess.DEVNULL,
            stdout=passing_on.stdin,
            stderr=passing_on.stdin,
            start_new_session=True,
        )
    except OSError as error:
        passing_on.communicate(f"{error}\n".encode())
        return COMMAND_NOT_FOUND
    status = None
    while status is None:
        ended, ended_status = os.wait()
        if ended == process.pid:
            status = os.waitstatus_to_exitcode(ended_status)
    passing_on.stdin.close()
    with contextlib.suppress(subprocess.TimeoutExpired):  # as long as something that the job left could still write
        passing_on.wait(PATIENCE_S)
    return status if status >= 0 else 128 - status


if __name__ == "__main__":
    try:
        main()
    except BaseException:  # noqa: BLE001 — whatever it was, the log has to show it, and the machine has to stop
        traceback.print_exc()
    finally:
        os.sync()
        libc.reboot(POWER_OFF)
