"""The recipes of docs/records.md work as they stand there, and print what is shown."""

from pathlib import Path

import pytest
from recipes import BLOCK, PAGE, with_outputs


@pytest.mark.long
@pytest.mark.timeout(300)
def test_the_recipes_print_what_is_shown(tmp_path: Path) -> None:
    page = PAGE.read_text()
    assert sum(block[1] == "python" for block in BLOCK.finditer(page)) >= 8
    assert with_outputs(page, tmp_path) == page, "stale; run: python tools/recipes.py"
