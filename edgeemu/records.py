"""Records of several runs as one table, for notebooks and scripts.

from edgeemu.records import read_runs
tokens = read_runs("runs", "tokens").to_pandas()     # columns run, scenario, policy and seed, then those of tokens
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from edgeemu.errors import RequestError, did_you_mean
from edgeemu.report.record_files import read_table
from edgeemu.report.rows import TableName, column_kinds
from edgeemu.report.run_directory import FACTS, RunDirectory

if TYPE_CHECKING:
    import pyarrow as pa


def read_runs(
    where: str | Path | Iterable[str | Path], table: TableName, columns: Sequence[str] | None = None
) -> "pa.Table":
    """Read one table of many runs: those that have ended, and what is there of others.

    Args:
        where: the directory of a run, one below which runs are (`runs`), or several of either.
        table: `tokens`, `ops` … (docs/run.md has them all).
        columns: those to read; None: all.

    Returns:
        All rows, run after run by their names, with four more columns in front: `run`, `scenario`, `policy`, `seed`.

    Raises:
        RequestError: no run is there, there is no such table or column, or a file is damaged.
    """
    import pyarrow as pa

    if table not in get_args(TableName):
        raise RequestError(f'there is no table "{table}"{did_you_mean(table, get_args(TableName))}')
    known = list(column_kinds(table))
    for column in columns or ():
        if column not in known:
            raise RequestError(f'table {table} has no column "{column}"{did_you_mean(column, known)}')
    paths = [where] if isinstance(where, str | Path) else list(where)
    runs = [RunDirectory.find(run) for path in paths for run in _runs_in(Path(path))]
    tables = []
    for run in runs:
        rows = read_table(run.path, table, columns)
        for at, (name, value) in enumerate(_about(run).items()):
            kind = pa.int64() if name == "seed" else pa.string()
            rows = rows.add_column(at, name, pa.repeat(pa.scalar(value, kind), len(rows)))
        tables.append(rows.replace_schema_metadata(None))
    return pa.concat_tables(tables).unify_dictionaries()


def _runs_in(path: Path) -> list[Path]:
    """Directories of runs: the path, or those in it."""
    if (path / FACTS).is_file() or not path.is_dir():
        return [path]
    return sorted(found.parent for found in path.rglob(FACTS)) or [path]


def _about(run: RunDirectory) -> dict[str, Any]:
    facts = run.read_facts()
    seed = run.read_meta().get("seed")
    return {"run": run.path.name, "scenario": facts.scenario, "policy": facts.policy, "seed": seed}
