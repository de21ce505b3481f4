"""Commands with a model that is too large for this host: refused before anything is loaded, but for simulate."""

import json
from pathlib import Path

import pytest
from support.commands import Edgeemu

from edgeemu.host.available_memory import HostMemory


def test_a_model_that_is_too_large_for_this_host(
    edgeemu: Edgeemu, tiny: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def little() -> HostMemory:
        return HostMemory(2**20, "available on this host")

    monkeypatch.setattr("edgeemu.run.planned.available_memory", little)
    monkeypatch.setattr("edgeemu.host.available_memory.available_memory", little)
    for command in (["run"], ["profile", "links", "--set", "time.mode=realtime"]):
        status, out, err = edgeemu(*command, tiny)
        assert (status, out) == (3, "")
        assert "edgeemu: too large for this host: a run needs " in err.splitlines()[-1]
    assert list((tmp_path / "runs").iterdir()) == []
    status, out, err = edgeemu("plan", tiny, "--json")
    assert status == 3
    assert err == f"edgeemu: {json.loads(out)['why_not_here']}\n"
    status, out, _ = edgeemu("plan", tiny)
    assert status == 3
    assert "time to first token" in out
    assert edgeemu("simulate", tiny)[0] == 0
    assert edgeemu("validate", tiny)[0] == 0
