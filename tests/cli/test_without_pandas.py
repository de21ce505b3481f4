"""Runs are written and read without pandas, which is there all the same for who wants it."""

import subprocess
import sys
from pathlib import Path

CODE = """
import sys
from pathlib import Path
from edgeemu.cli import app

def call(*arguments):
    try:
        app.main(arguments)
    except SystemExit as leaving:
        assert leaving.code == 0

call("simulate", sys.argv[1], "--out", sys.argv[2])
call("report", str(next(Path(sys.argv[2]).glob("tiny-*"))), "--trace", sys.argv[2] + "/trace.json.gz")
assert "pyarrow" in sys.modules
assert "pandas" not in sys.modules

from edgeemu.records import read_runs
tokens = read_runs(sys.argv[2], "tokens").to_pandas()
assert sorted(tokens.index[tokens["emulated_s"] > 0]) == list(range(10))
assert set(tokens["run"]) == {tokens["run"][0]}

import pandas, pyarrow
frame = pandas.DataFrame({"number": [1.0, None], "word": ["a", None]})
assert pyarrow.Table.from_pandas(frame)["word"].null_count == 1
assert pyarrow.array(frame["number"]).null_count == 1
"""


def test_simulate_and_report_import_no_pandas_and_tables_still_become_frames(tiny: str, tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", CODE, tiny, str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
