"""Writes docs/validation.md with pictures, validated.yaml of the catalog, and boards/*.yaml from tests/validation.

    python tools/validation.py            # fits and predicts every data set, and writes
    python tools/validation.py --check    # writes nothing, and fails where a file is not what would be written

Published measurements are fitted on few rows, and all others of the same engine predicted, by the timeline alone: the
same code gives the same files on any host.
"""

import argparse
import sys
import tempfile
from pathlib import Path

from validationpage.page import page
from validationpage.sets import ROOT, DataSet, data_sets

from edgeemu.run.calibrate.fit_figure import draw_fit
from edgeemu.run.calibrate.profile_text import profile_text
from edgeemu.scenario.document import write

PAGE = ROOT / "docs" / "validation.md"
PICTURES = ROOT / "docs" / "validation"
PROFILES = ROOT / "boards"
VALIDATED = ROOT / "edgeemu" / "scenario" / "catalog" / "validated.yaml"
HEADER = """\
# How far predictions were from what others measured, by engine and class of boards: written by make validation from
# tests/validation, never by hand. Errors are of predicted times, up to four nodes, of rows that were not fitted to.

"""


def validated(sets: list[DataSet]) -> str:
    """Text of the catalog's errors."""
    entries = {
        each.name: {
            "title": each.title,
            "engine": each.engine,
            "boards": each.boards,
            "data": f"tests/validation/measured.csv, set {each.name}",
            "fitted_on": each.fitted_on,
            "predicted": len(each.held),
            "median_error": f"{100 * each.typical:.1f} %",
            "worst_error": f"{100 * each.worst:.1f} %",
            "direction": each.direction,
        }
        for each in sets
        if each.typical is not None and each.worst is not None
    }
    return HEADER + write(entries)


def written(pictures: Path) -> dict[Path, str]:
    """Every file with its text; pictures are drawn to a directory, and read from there."""
    sets = data_sets()
    files = {PAGE: page(sets), VALIDATED: validated(sets)}
    for each in sets:
        if each.beside is not None:
            text = profile_text(f"{each.title.partition(' on ')[2] or each.title}, calibrated", each.made, each.beside)
            files[PROFILES / f"{each.profile}.yaml"] = f"# Written by make validation from set {each.name}.\n\n{text}"
        drawn = pictures / f"{each.name}.svg"
        draw_fit([(each.title, each.made)], drawn)
        files[PICTURES / drawn.name] = drawn.read_text("utf-8")
    return files


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; status 1 if a file would be another")
    check = parser.parse_args().check
    with tempfile.TemporaryDirectory() as directory:
        files = written(Path(directory))
    stale = [path for path, text in files.items() if not path.exists() or path.read_text("utf-8") != text]
    stale += [path for folder in (PICTURES, PROFILES) for path in folder.glob("*") if path not in files]
    for path in stale:
        print(f"{path.relative_to(ROOT)}: {'stale (run: make validation)' if check else 'written'}")
        if not check and path in files:
            path.parent.mkdir(exist_ok=True)
            path.write_text(files[path], "utf-8")
        elif not check:
            path.unlink()
    sys.exit(1 if check and stale else 0)


if __name__ == "__main__":
    main()
