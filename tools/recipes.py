"""Runs the recipes of docs/records.md as they stand there, and writes what they print below them.

python tools/recipes.py
"""

import contextlib
import io
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parents[1] / "docs" / "records.md"
BLOCK = re.compile(r"^```(yaml|sh|python)(?: (\S+))?\n(.*?)^```\n(?:\n```text\n.*?^```\n)?", re.MULTILINE | re.DOTALL)


def with_outputs(page: str, folder: Path) -> str:
    """Run the blocks of a page in their order, in a folder that is empty; return the page with what they print."""
    names: dict[str, Any] = {}
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}

    def run(block: "re.Match[str]") -> str:
        language, name, code = block.groups()
        heading = f"```{language}" + (f" {name}" if name else "")
        as_it_stands = f"{heading}\n{code}```\n"
        if language == "yaml":
            (folder / name).write_text(code)
            return as_it_stands
        if language == "sh":
            subprocess.run(["sh", "-ec", code], cwd=folder, env=environment, check=True, capture_output=True)
            return as_it_stands
        printed = io.StringIO()
        with contextlib.chdir(folder), contextlib.redirect_stdout(printed):
            exec(compile(code, str(PAGE), "exec"), names)
        return f"{as_it_stands}\n```text\n{printed.getvalue()}```\n"

    return BLOCK.sub(run, page)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        PAGE.write_text(with_outputs(PAGE.read_text(), Path(folder)))


if __name__ == "__main__":
    main()
