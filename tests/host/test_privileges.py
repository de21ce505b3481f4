"""A process gives up all capabilities but those without which it could not do its work, and none comes back."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

OTHER = 65534
DROP = """
import json, os, resource, sys, threading
from edgeemu.host import privileges
from edgeemu.host.owner import read_proc
from edgeemu.host.realtime import RealtimePriority

def status():
    lines = (line.split(":", 1) for line in read_proc("/proc/thread-self/status").splitlines())
    return {name: text.strip() for name, text in lines if name.startswith("Cap") or name == "NoNewPrivs"}

before = RealtimePriority().may
privileges.gain_no_privileges()
privileges.drop_capabilities([path for path in sys.argv[1:] if path.startswith("/")])
seen = [status()]
thread = threading.Thread(target=lambda: seen.append(status()))
thread.start()
thread.join()
child = os.popen("grep CapEff /proc/self/status").read().split()[1]
readable = all(open(path, "rb").read() for path in sys.argv[1:] if path.startswith("/"))
print(json.dumps({"seen": seen, "child": child, "core": resource.getrlimit(resource.RLIMIT_CORE),
    "realtime": [before, RealtimePriority().may], "readable": readable}))
"""
NONE = "0" * 16
NICE = "0000000000800000"  # where only that gives real-time priority
READ = "0000000000000004"


def dropped(*arguments: str) -> Any:
    done = subprocess.run([sys.executable, "-c", DROP, *arguments], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def test_nothing_is_left_in_any_thread_and_real_time_stays_what_it_was() -> None:
    found = dropped(__file__)
    for thread in found["seen"]:
        assert (thread["CapEff"], thread["CapInh"], thread["CapAmb"]) == (NONE,) * 3
        assert thread["CapPrm"] in (NONE, NICE)
        assert thread["NoNewPrivs"] == "1"
        if os.geteuid() == 0:
            assert thread["CapBnd"] == NONE
    assert found["child"] == NONE  # not even for root, who gets all back from exec(2) otherwise
    assert found["core"] == [0, 0]
    before, after = found["realtime"]
    assert before == after


@pytest.mark.skipif(os.geteuid() != 0, reason="an ordinary user has nothing to keep")
def test_the_right_to_read_others_files_stays_if_the_model_is_one(tmp_path: Path) -> None:
    file = tmp_path / "model"
    file.write_text("weights")
    file.chmod(0o600)
    os.chown(file, OTHER, OTHER)
    found = dropped(str(file))
    assert found["readable"]
    assert [thread["CapEff"] for thread in found["seen"]] == [READ, READ]
