"""Measures what Mininet, the usual emulator, takes to set up and tear down 25 hosts on shaped links. Optional.

    python tools/bench/mininet.py [--hosts 25] [--runs 7] [--json]

To stand beside tools/bench/links.py. Needs root and Debian's packages mininet and bridge-utils (which use the system's
Python); without them it says so and ends with status 0. All that Mininet makes is in a network and a process namespace
of this run, and ends with it.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

SYSTEM_PYTHON = "/usr/bin/python3"
NAMESPACES = ("unshare", "--net", "--pid", "--fork", "--kill-child", "--mount-proc")
BANDWIDTH_MBPS = 100
DELAY = "2ms"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hosts", type=int, default=25)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.inside:
        figures = measure(asked.hosts, asked.runs)
        print(json.dumps(figures))
        return 0
    if lacking := what_is_lacking():
        print(f"Mininet is not measured: {lacking}", file=sys.stderr)
        return 0
    command = [*NAMESPACES, SYSTEM_PYTHON, __file__, "--inside"]
    command += ["--hosts", str(asked.hosts), "--runs", str(asked.runs)]
    done = subprocess.run(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True, check=False)
    if done.returncode:
        print(f"Mininet ended with status {done.returncode}", file=sys.stderr)
        return done.returncode
    figures = json.loads(done.stdout)
    print(json.dumps(figures, indent=2) if asked.json else table(figures))
    return 0


def what_is_lacking() -> str:
    """Why Mininet cannot run here, and what to do, or an empty text."""
    if os.geteuid():
        return "it needs root"
    if subprocess.run([*NAMESPACES, "true"], capture_output=True, check=False).returncode:
        return "namespaces may not be made here"
    probe = [SYSTEM_PYTHON, "-c", "import mininet"]
    have = Path(SYSTEM_PYTHON).exists() and subprocess.run(probe, capture_output=True, check=False).returncode == 0
    if not have or not shutil.which("brctl"):
        return "on Debian and Ubuntu, apt-get install mininet bridge-utils"
    return ""


def table(figures: dict[str, Any]) -> str:
    lines = [f"Mininet {figures['version']}: {figures['what']}; {figures['runs']} runs"]
    for label, times_s in (("set-up", figures["setup_s"]), ("tear-down", figures["teardown_s"])):
        lines.append(f"{label:9}  min {min(times_s):.3f} s  median {statistics.median(times_s):.3f} s")
    return "\n".join(lines)


def measure(hosts: int, runs: int) -> dict[str, Any]:
    """In the system's Python, in namespaces of its own: times of `runs` networks, set up and torn down."""
    import mininet.net
    from mininet.link import TCLink
    from mininet.log import setLogLevel
    from mininet.nodelib import LinuxBridge
    from mininet.topo import SingleSwitchTopo

    setLogLevel("critical")  # its "errors" are tc's remarks on htb quanta, one a link; check() sees what matters
    mininet.net.fixLimits = lambda: None  # it would change the whole machine's limits, and leave them so
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    netem = ["tc", "qdisc", "add", "dev", "lo", "root", "netem", "delay", DELAY]
    has_netem = subprocess.run(netem, capture_output=True, check=False).returncode == 0
    if has_netem:
        subprocess.run(["tc", "qdisc", "delete", "dev", "lo", "root"], check=True)
    link = partial(TCLink, bw=BANDWIDTH_MBPS, **({"delay": DELAY} if has_netem else {}))
    setup_s, teardown_s = [], []
    for _ in range(runs):
        started_s = time.monotonic()
        # Its default, Open vSwitch with a controller, would take longer: this is the leaner of its ways.
        net = mininet.net.Mininet(SingleSwitchTopo(hosts), switch=LinuxBridge, controller=None, link=link)
        net.start()
        ready_s = time.monotonic()
        check(net, hosts)
        stopped_s = time.monotonic()
        net.stop()
        setup_s.append(ready_s - started_s)
        teardown_s.append(time.monotonic() - stopped_s)
    delay = f" and {DELAY} of delay" if has_netem else "; no delay, as this kernel has no netem"
    what = f"{hosts} hosts on a Linux bridge, TCLink with {BANDWIDTH_MBPS} Mbit/s (htb){delay}"
    return {
        "version": mininet.net.VERSION,
        "what": what,
        "runs": runs,
        "hosts": hosts,
        "netem": has_netem,
        "setup_s": setup_s,
        "teardown_s": teardown_s,
    }


def check(net: Any, hosts: int) -> None:
    """Fail unless the links are there and shaped: else the figure would be of something else."""
    for host in net.hosts:
        shown = host.cmd("tc class show dev", host.defaultIntf())
        if f"rate {BANDWIDTH_MBPS}Mbit" not in shown:
            raise SystemExit(f"{host}: Mininet did not shape its link: {shown!r}")
    if len(net.hosts) != hosts:
        raise SystemExit(f"Mininet made {len(net.hosts)} hosts of {hosts}")


if __name__ == "__main__":
    sys.exit(main())
