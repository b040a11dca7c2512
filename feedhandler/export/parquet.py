"""Records as Parquet: one file a schema, columns as in databento_dbn, and `symbol`."""

from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from feedhandler.consumer.schema import DTYPES
from feedhandler.errors import RunError, UsageError

_ROWS_AT_ONCE = 200_000
_TIMES = ("ts_event", "ts_recv", "auction_time", "expiration", "activation")
_UNDEF_TIME = 2**64 - 1
Symbols = Callable[[], list[tuple[int, str]]]


def need_pyarrow() -> None:
    """Raise UsageError when pyarrow is not installed."""
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError:
        raise UsageError(
            '--format: "parquet" needs pyarrow: pip install "feedhandler[parquet]"; "dbn" needs nothing'
        ) from None


class ParquetFiles:
    """Files `PREFIX.SCHEMA.parquet` that grow while records come; they have their names when finished.

    Prices are int64 in 1e-9 as in DBN, times are timestamps in UTC nanoseconds, characters are strings.
    `symbols` is asked for (instrument id, symbol) when an instrument is new.
    """

    def __init__(self, directory: Path, prefix: str, schemas: tuple[str, ...]) -> None:
        need_pyarrow()
        self.symbols: Symbols = list
        self._directory, self._prefix = directory, prefix
        self._waiting: dict[str, list[np.ndarray[Any, Any]]] = {schema: [] for schema in schemas}
        self._writers: dict[str, Any] = {}
        self._names: dict[int, str] = {}
        try:
            directory.mkdir(parents=True, exist_ok=True)
            for schema in schemas:
                self._part(schema).touch()
        except OSError as error:
            raise UsageError(f'--output: "{directory}": {error.strerror}') from error

    def path(self, schema: str) -> Path:
        """Return where the finished file of a schema lies."""
        return self._directory / f"{self._prefix}{schema}.parquet"

    def _part(self, schema: str) -> Path:
        return self._directory / f".{self._prefix}{schema}.parquet.part"

    def write(self, schema: str, records: bytes) -> None:
        """Append whole records of one schema."""
        waiting = self._waiting[schema]
        waiting.append(np.frombuffer(records, DTYPES[schema]))
        if sum(map(len, waiting)) >= _ROWS_AT_ONCE:
            self._flush(schema)

    def _flush(self, schema: str) -> None:
        import pyarrow as pa
        from pyarrow import parquet

        waiting = self._waiting[schema]
        rows = np.concatenate(waiting) if waiting else np.empty(0, DTYPES[schema])
        waiting.clear()
        batch = self._table(rows)
        try:
            if schema not in self._writers:
                self._writers[schema] = parquet.ParquetWriter(
                    self._part(schema), batch.schema, compression="zstd"
                )
            self._writers[schema].write_table(batch)
        except (OSError, pa.ArrowException) as error:
            raise RunError(f'--output: "{self.path(schema)}": {error}') from error

    def _table(self, rows: np.ndarray[Any, Any]) -> Any:
        import pyarrow as pa

        columns: dict[str, Any] = {}
        for name in rows.dtype.names or ():
            values = np.ascontiguousarray(rows[name])
            if name.startswith("_reserved") or name == "length":
                continue
            if values.dtype.kind == "S":
                columns[name] = pa.array(values.astype("U"), pa.string())
            elif name in _TIMES:
                undefined = values == np.uint64(_UNDEF_TIME)
                columns[name] = pa.array(
                    values.astype(np.int64), pa.timestamp("ns", tz="UTC"), mask=undefined
                )
            else:
                columns[name] = pa.array(values)
        columns["symbol"] = self._symbol_column(rows["instrument_id"])
        return pa.table(columns)

    def _symbol_column(self, ids: np.ndarray[Any, Any]) -> Any:
        import pyarrow as pa

        unique, places = np.unique(ids, return_inverse=True)
        if any(int(number) not in self._names for number in unique):
            self._names.update(self.symbols())
        names = pa.array([self._names.get(int(number)) for number in unique], pa.string())
        return pa.DictionaryArray.from_arrays(pa.array(places.astype(np.int32)), names).cast(pa.string())

    def finish(self, _symbols: list[tuple[int, str]], _first_ns: int, _last_ns: int) -> None:
        """Write what waits; only then do the files have their names."""
        for schema in self._waiting:
            self._flush(schema)
            try:
                self._writers.pop(schema).close()
                self._part(schema).replace(self.path(schema))
            except OSError as error:
                raise RunError(f'--output: "{self.path(schema)}": {error.strerror}') from error

    def discard(self) -> None:
        """Remove what is not finished."""
        for schema in self._waiting:
            if writer := self._writers.pop(schema, None):
                writer.close()
            self._part(schema).unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.discard()
