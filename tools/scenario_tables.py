"""Write the tables of keys in docs/scenario.md from the schema of scenarios.

python tools/scenario_tables.py            writes them
python tools/scenario_tables.py --check    says which are stale, with exit status 1, and writes nothing
"""

import argparse
import re
import sys
from pathlib import Path

from edgeemu.scenario.reference import SECTIONS, table

PAGE = Path(__file__).parents[1] / "docs" / "scenario.md"
TABLE = re.compile(r"^\| key \| kind \| default \| meaning \|\n\| ---.*\n(?:\|.*\n)*", re.MULTILINE)


def section(page: str, heading: str) -> re.Match[str]:
    """The text from a heading to the next. Raises ValueError if there is none."""
    found = re.search(rf"^##+ {re.escape(heading)}\n.*?(?=^##|\Z)", page, re.MULTILINE | re.DOTALL)
    if found is None:
        raise ValueError(f'{PAGE.name} has no heading "{heading}"')
    return found


def updated(page: str) -> tuple[str, list[str]]:
    """The page with every table as the schema has it, and the headings of those that differed."""
    stale = []
    for heading, model in SECTIONS.items():
        found = section(page, heading)
        if len(TABLE.findall(found[0])) != 1:
            raise ValueError(f'{PAGE.name}: "{heading}" must have one table of keys')
        new = TABLE.sub(lambda _, model=model: table(model), found[0])
        if new != found[0]:
            stale.append(heading)
            page = page[: found.start()] + new + page[found.end() :]
    return page, stale


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="only say which tables are stale")
    check = parser.parse_args().check
    page, stale = updated(PAGE.read_text("utf-8"))
    if not check:
        PAGE.write_text(page, "utf-8")
    for heading in stale:
        print(f"{PAGE.name}: {heading}: {'stale (run: python tools/scenario_tables.py)' if check else 'written'}")
    sys.exit(1 if check and stale else 0)


if __name__ == "__main__":
    main()
