"""One file a schema and trading day: the packets of each day through the pipeline of a replay."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from feedhandler import _core
from feedhandler.config._models import PUBLISHERS
from feedhandler.errors import UsageError
from feedhandler.export.days import Day, Input
from feedhandler.export.parquet import ParquetFiles, need_pyarrow
from feedhandler.replay.dbn_files import DbnFiles
from feedhandler.replay.options import Group, ReplayOptions
from feedhandler.replay.player import EPOCH_DAY, NothingToPlayError, Played, Player, RecordSink

DIALECTS = ("databento", "modify")
FORMATS = ("dbn", "parquet")
DATASETS = tuple(PUBLISHERS)


@dataclass(frozen=True)
class ExportOptions:
    """What is wanted of a journal."""

    directory: Path
    schemas: tuple[str, ...]
    symbols: tuple[str, ...] = ()
    groups: tuple[Group, ...] = ()
    dialect: str = "databento"
    file_format: str = "dbn"
    day: date | None = None
    dataset: str = "XNAS.ITCH"


@dataclass(frozen=True)
class DayExported:
    """What became of one day."""

    day: date
    files: tuple[Path, ...]
    played: Played


class _Modified:
    """Changes mbo records on their way."""

    def __init__(self, sink: RecordSink) -> None:
        self._sink = sink
        self._dialect = _core.ModifyDialect()

    def write(self, schema: str, records: bytes) -> None:
        if schema == "mbo":
            records = self._dialect.apply(records)
        self._sink.write(schema, records)


class Exporter:
    """Exports day after day. Raises UsageError when there is nothing to export. `notes` are for stderr."""

    def __init__(self, path: Path, options: ExportOptions) -> None:
        if options.file_format == "parquet":
            need_pyarrow()
        self._options = options
        self._input = Input(path)
        self.notes: list[str] = []
        self._days = self._chosen(path)

    def _chosen(self, path: Path) -> list[Day]:
        options, days = self._options, self._input.days
        if self._input.has_no_time:
            if options.day is None:
                self.notes.append(
                    "--date: not given for a BinaryFILE, which has no date: times count from 1970-01-01"
                )
            return [Day(options.day or EPOCH_DAY)]
        if options.day is None:
            return days
        chosen = [day for day in days if day.day == options.day]
        if not chosen:
            there = f"its days are {days[0].day} to {days[-1].day}" if days else "it has no packets"
            raise UsageError(f'--date: "{options.day}": "{path}" has no packet of that day; {there}')
        return chosen

    def export(self, progress: Callable[[int, int], None] | None = None) -> Iterator[DayExported]:
        """Yield each day once its files are there."""
        nothing: NothingToPlayError | None = None
        exported = 0
        for day in self._days:
            try:
                yield self._export(day, progress)
                exported += 1
            except NothingToPlayError as error:  # between two days, or packets of something else
                nothing = error
        if not exported:
            raise nothing or UsageError("JOURNAL: has no packets")

    def _export(self, day: Day, progress: Callable[[int, int], None] | None) -> DayExported:
        options = self._options
        replay = ReplayOptions(
            groups=options.groups,
            lines=0,
            symbols=options.symbols,
            trading_day=day.day,
            schemas=options.schemas,
        )
        prefix = f"{options.dataset.replace('.', '-').lower()}-{day.day:%Y%m%d}."
        files: DbnFiles | ParquetFiles
        if options.file_format == "dbn":
            files = DbnFiles(options.directory, options.schemas, options.dataset, prefix, option="--output")
        else:
            files = ParquetFiles(options.directory, prefix, options.schemas)
        with files:
            sink: RecordSink = _Modified(files) if options.dialect == "modify" else files
            period = None if self._input.has_no_time else day.period_ns
            player = Player(self._input.open(day), replay, sink, period_ns=period, dataset=options.dataset)
            if isinstance(files, ParquetFiles):
                files.symbols = player.symbols
            self.notes += player.notes
            played = player.play(progress=progress)
            files.finish(played.symbols, played.first_ns, played.last_ns)
        return DayExported(day.day, tuple(files.path(schema) for schema in options.schemas), played)
