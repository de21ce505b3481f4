"""Files of a sweep: its runs and its points as CSV and Parquet. Knows rows; not how they were made."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeemu.report.comparison import FIGURES
from edgeemu.report.disk import writing
from edgeemu.report.new_file import new_file

if TYPE_CHECKING:
    import pyarrow as pa

_TEXTS, _FLAGS = {"policy", "certificate", "directory", "problem"}, {"best", "significant"}
_COUNTS = {"seed", "runs", "failed"}
_PER = {"throughput_tok_s": "tokens/s"}


def write_tables(directory: Path, document: Mapping[str, Any]) -> None:
    """Write `runs` and `points` of a sweep's document, each as CSV and as Parquet.

    Raises:
        RecordsError: the disk refuses them.
    """
    import pyarrow.csv as csv
    import pyarrow.parquet as pq

    for name in ("runs", "points"):
        table = _table(document[name], document)
        for suffix, write in ((".csv", csv.write_csv), (".parquet", pq.write_table)):
            path = directory / f"{name}{suffix}"
            with writing(path), new_file(path) as file:
                write(table, file)


def _table(rows: Sequence[Mapping[str, Any]], document: Mapping[str, Any]) -> "pa.Table":
    import pyarrow as pa

    keys, columns = document["varied"], {name: [row[name] for row in rows] for name in rows[0]}
    arrays = {}
    for name, values in columns.items():
        if name in keys:
            arrays[name] = pa.array(_as_numbers(values))
        else:
            kinds = {**dict.fromkeys(_TEXTS, pa.string()), **dict.fromkeys(_FLAGS, pa.bool_())}
            kinds.update(dict.fromkeys(_COUNTS, pa.int64()))
            arrays[name] = pa.array(values, kinds.get(name, pa.float64()))
    units = {figure.key: _PER.get(figure.key, figure.unit) for figure in FIGURES}
    about = {key: document[key] for key in ("scenario", "varied", "policies", "seeds", "judged_by", "confidence")}
    metadata = {"sweep": json.dumps(about), "units": json.dumps(units)}
    return pa.table(arrays).replace_schema_metadata(metadata)


def _as_numbers(values: Sequence[str]) -> Sequence[str] | Sequence[int] | Sequence[float]:
    """Return values as numbers where all of them are; else as they were written."""
    for kind in (int, float):
        try:
            return [kind(value) for value in values]
        except ValueError:
            continue
    return values
