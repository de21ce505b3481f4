"""Measures whole runs against what edgeemu promises, through its command line. Prints a table; status 1 on a miss.

    python tools/bench/fidelity.py [--json]

Figures of time depend on the host and on what else it does: run it on a quiet machine.
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from measure import ROOT, SCENARIOS, Figure, Run, report

QUICKSTART = SCENARIOS / "quickstart.yaml"
LAN_25 = SCENARIOS / "lan-25.yaml"


def first_token_s() -> float:
    """From the start of the command to the first text it prints for the first prompt."""
    started_s = time.monotonic()
    with tempfile.TemporaryDirectory() as out:
        command = [sys.executable, "-m", "edgeemu", "run", str(QUICKSTART), "--out", out]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            assert process.stdout is not None
            while Path(out).is_dir() and not any(
                path.stat().st_size > 600 for path in Path(out).glob("*/tokens.arrows")
            ):
                time.sleep(0.01)
            measured_s = time.monotonic() - started_s
            process.terminate()
            process.communicate()
    return measured_s


def figures() -> list[Figure]:
    quickstart = Run("run", QUICKSTART).summary
    many = Run("run", LAN_25, "time.mode=virtual", policy="round-robin").summary
    tpot_ms, predicted_ms = quickstart["tpot_ms"]["mean"], quickstart["predicted"]["tpot_ms"]
    beyond = [
        (device["resident_bytes"] - device["weights_bytes"]) / 1e6
        for summary in (quickstart, many)
        for device in summary["memory"]["by_device"].values()
    ]
    beside_ledger = [  # what a control group counts and the ledger does not
        100 * (device["group_peak_bytes"] - device["peak_bytes"]) / device["baseline_bytes"]
        for summary in (quickstart, many)
        for device in summary["memory"]["by_device"].values()
        if device["group_peak_bytes"] is not None
    ]
    dilation = quickstart["dilation"]
    return [
        Figure(
            f"quickstart: wall-clock TPOT off the emulated one, at dilation {dilation:g}",
            100 * abs(quickstart["wall"]["inflation"] - 1),
            1.0,
            "%",
        ),
        Figure(
            f"quickstart: emulated TPOT ({tpot_ms:.2f} ms) off the timeline's prediction ({predicted_ms:.2f} ms)",
            100 * abs(tpot_ms / predicted_ms - 1),
            0.5,
            "%",
        ),
        Figure("quickstart: first token after the start of the command", first_token_s(), 20.0, "s"),
        Figure("lan-25: 25 device processes ready", many["ready_s"], 5.0, "s"),
        Figure("lan-25: ready, with their weights", many["ready_s"] + many["loaded_s"], 5.0, "s"),
        *(
            [Figure("most in a cgroup beside the ledger, of the baseline that caps add", max(beside_ledger), 50.0, "%")]
            if beside_ledger
            else []
        ),
        Figure("largest resident memory of a device beyond its weights", max(beyond), 60.0, "MB"),
    ]


if __name__ == "__main__":
    sys.exit(report(figures(), "--json" in sys.argv[1:]))
