"""Writes docs/papers.md: the experiments of published systems, run anew, beside what the papers claim.

    python tools/papers.py            # runs all of scenarios/papers and writes the page
    python tools/papers.py --check    # runs all, writes nothing, and fails where the page is not what would be written

No figure of the page is typed by hand, but for those that are quoted from a paper. The same code gives the same page on
any host: decisions take no time on the timeline, clusters come from fixed seeds, and real runs are in virtual time.
"""

import argparse
import difflib
import sys
import time
from pathlib import Path

from paperpage import edgeshard, galaxy, head_level, mdi_llm
from paperpage.runs import Job, run_all

PAGE = Path(__file__).parents[1] / "docs" / "papers.md"
INTRODUCTION = """\
# What the papers claim, and what comes out here

`python tools/papers.py` (or `make papers`) runs every experiment below and writes this page, in some minutes; `--check`
says whether the page is still what it would write. Nothing is edited by hand, and nothing of the host's speed is in it:
decisions take no time on the timeline, clusters come from fixed seeds, and what runs on real kernels does so in virtual
time.

Each claim has its source: [P] the paper's abstract or a summary of it, [A] the authors' public code, [N] notes by
readers of the paper, [D] ours, where sources are silent. "From" is one of the runs behind the figure; the others have
other seeds, counts, policies or bandwidths. Several clusters are shown as median (least to most).

"Possible" is a bound that no placement can beat, divided or not, whichever policy makes it: it is proven, for the
cluster at its best (without load), and not always within reach ([policies.md](policies.md#what-is-possible)).

The scenarios, with the source of every parameter, are in [scenarios/papers](../scenarios/papers); the policies in
[policies.md](policies.md). Where a claim is not met, the last column says why.
"""


SECTIONS = (head_level, mdi_llm, edgeshard, galaxy)


def page() -> str:
    """Runs everything. Raises what a run raises."""
    began_s = time.monotonic()

    def progress(done: int, total: int, job: Job) -> None:
        line = f"{done}/{total} after {time.monotonic() - began_s:.0f} s: {job.policy} on {job.file}"
        if sys.stderr.isatty():
            print(f"\r\x1b[K{line}", end="", file=sys.stderr, flush=True)
        elif done % 50 == 0 or done == total:
            print(line, file=sys.stderr, flush=True)

    found = run_all([job for module in SECTIONS for job in module.jobs()], progress)
    if sys.stderr.isatty():
        print(file=sys.stderr)
    return "\n\n".join([INTRODUCTION.strip(), *(module.section(found) for module in SECTIONS)]) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; status 1 if the page would be another")
    asked = parser.parse_args()
    text = page()
    if not asked.check:
        PAGE.write_text(text, "utf-8")
        return
    before = PAGE.read_text("utf-8") if PAGE.exists() else ""
    lines = difflib.unified_diff(
        before.splitlines(), text.splitlines(), "docs/papers.md", "as it would be", lineterm=""
    )
    print("\n".join(lines), end="\n" if before != text else "")
    sys.exit(before != text)


if __name__ == "__main__":
    main()
