"""Writes records as DBN files: one schema each, `[PREFIX]SCHEMA.dbn.zst`, with symbol mappings."""

import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, BinaryIO, Self

import databento_dbn
import zstandard

from feedhandler.errors import RunError, UsageError

if TYPE_CHECKING:
    from databento_dbn.metadata import MappingInterval, SymbolMapping

DBN_VERSION = 3


@dataclass
class _Interval:  # as databento_dbn takes it
    start_date: date
    end_date: date  # exclusive
    symbol: str


@dataclass
class _Mapping:
    raw_symbol: str
    intervals: "Sequence[MappingInterval]"


def metadata(schema: str, dataset: str, symbols: list[tuple[int, str]], first_ns: int, last_ns: int) -> bytes:
    """Return the head of a DBN stream of one schema.

    `symbols` are (instrument id, symbol). Readers look a record's symbol up by the UTC date of its ts_recv,
    so a mapping spans the dates of the packets from `first_ns` to `last_ns`, UTC.
    """
    start = _day(first_ns)
    end = _day(last_ns) + timedelta(days=1)
    ids: dict[str, list[int]] = {}
    for instrument_id, symbol in sorted(symbols, key=lambda entry: entry[1]):
        ids.setdefault(symbol, []).append(instrument_id)
    # After a change of session a symbol may have another id: then both map to it.
    mappings: list[SymbolMapping] = [
        _Mapping(symbol, [_Interval(start, end, str(instrument_id)) for instrument_id in found])
        for symbol, found in ids.items()
    ]
    return databento_dbn.Metadata(
        dataset=dataset,
        schema=databento_dbn.Schema.from_str(schema),
        start=max(first_ns, 0),
        end=max(last_ns, 0) + 1,
        stype_in=databento_dbn.SType.from_str("raw_symbol"),
        stype_out=databento_dbn.SType.from_str("instrument_id"),
        symbols=list(ids),
        partial=[],
        not_found=[],
        mappings=mappings,
        version=DBN_VERSION,
    ).encode()


def _day(ts_ns: int) -> date:
    return datetime.fromtimestamp(max(ts_ns, 0) // 1_000_000_000, tz=UTC).date()


class DbnFiles:
    """Files that grow while records come and get their heads at the end, when the symbols are known.

    A finished file is two zstd frames, one after the other: the metadata, and the records.
    """

    def __init__(
        self,
        directory: Path,
        schemas: tuple[str, ...],
        dataset: str = "XNAS.ITCH",
        prefix: str = "",
        option: str = "--dbn",
    ) -> None:
        self._directory, self._prefix, self._option = directory, prefix, option
        self._dataset = dataset
        self._schemas = schemas
        self._parts: dict[str, tuple[BinaryIO, zstandard.ZstdCompressionWriter]] = {}
        try:
            directory.mkdir(parents=True, exist_ok=True)
            for schema in schemas:
                file = self._part(schema).open("w+b")
                writer = zstandard.ZstdCompressor(
                    write_checksum=True, write_content_size=False
                ).stream_writer(file, closefd=False)
                self._parts[schema] = (file, writer)
        except OSError as error:
            self.discard()
            raise UsageError(f'{option}: "{directory}": {error.strerror}') from error
        except BaseException:  # Ctrl-C: nobody else knows of the files yet
            self.discard()
            raise

    def _part(self, schema: str) -> Path:
        return self._directory / f".{self._prefix}{schema}.records.part"

    def path(self, schema: str) -> Path:
        """Return where the finished file of a schema lies."""
        return self._directory / f"{self._prefix}{schema}.dbn.zst"

    def write(self, schema: str, records: bytes) -> None:
        """Append whole records of one schema."""
        try:
            self._parts[schema][1].write(records)
        except OSError as error:
            raise RunError(f'{self._option}: "{self.path(schema)}": {error.strerror}') from error

    def finish(self, symbols: list[tuple[int, str]], first_ns: int, last_ns: int) -> None:
        """Put the heads before the records; only then do the files have their names."""
        for schema, (file, writer) in self._parts.items():
            head = metadata(schema, self._dataset, symbols, first_ns, last_ns)
            path = self.path(schema)
            try:
                writer.flush(zstandard.FLUSH_FRAME)
                file.seek(0)
                unfinished = path.with_suffix(".part")
                with unfinished.open("wb") as whole:
                    whole.write(
                        zstandard.ZstdCompressor(write_checksum=True, write_content_size=False).compress(head)
                    )
                    shutil.copyfileobj(file, whole, 1 << 20)
                unfinished.replace(path)
            except OSError as error:
                raise RunError(f'{self._option}: "{path}": {error.strerror}') from error

    def discard(self) -> None:
        """Remove what is not finished."""
        for file, _writer in self._parts.values():
            file.close()
        for schema in self._schemas:
            for path in (self._part(schema), self.path(schema).with_suffix(".part")):
                with suppress(OSError):
                    path.unlink()
        self._parts = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.discard()
