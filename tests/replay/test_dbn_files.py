"""What `--dbn` writes, read by an unmodified Databento reader."""

import datetime as dt
from pathlib import Path

import databento
import databento_dbn
import numpy as np
import pytest
import zstandard

from feedhandler.errors import RunError, UsageError
from feedhandler.replay.dbn_files import DbnFiles
from feedhandler.replay.options import SCHEMAS
from tests.support.replay_files import Records, play, simulated

DAY = dt.date(2026, 11, 20)


@pytest.fixture(scope="module")
def day(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small day as BinaryFILE."""
    path = tmp_path_factory.mktemp("day") / "day.itch"
    path.write_bytes(simulated(5_000, symbols=10))
    return path


@pytest.fixture(scope="module")
def written(day: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Records]:
    """The files of all schemas, and the same records kept in memory."""
    directory = tmp_path_factory.mktemp("dbn")
    records = Records()
    played = play(day, records, schemas=SCHEMAS, trading_day=DAY)
    with DbnFiles(directory, SCHEMAS) as files:
        for schema, data in records.data.items():
            half = len(data) // 2 // 8 * 8
            files.write(schema, bytes(data[:half]))
            files.write(schema, bytes(data[half:]))
        files.finish(played.symbols, played.first_ns, played.last_ns)
    return directory, records


# pandas and databento disagree on a keyword, and databento leaves closing to the collector: not ours.
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore:The inplace keyword", "ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("schema", SCHEMAS)
def test_databento_reads_every_schema(written: tuple[Path, Records], schema: str) -> None:
    """to_df gives every record, with its symbol; the array is byte for byte what the pipeline made."""
    directory, records = written
    store = databento.DBNStore.from_file(directory / f"{schema}.dbn.zst")
    data = bytes(records.data.get(schema, b""))
    assert store.schema == schema
    assert store.dataset == "XNAS.ITCH"
    frame = store.to_df()
    rows = store.to_ndarray()
    assert rows.tobytes() == data
    assert len(frame) == len(rows) > 0
    assert frame["symbol"].notna().all()
    assert frame["symbol"].str.len().min() > 0
    assert sum(1 for _ in store) == len(rows)


def test_metadata_is_version_3_with_mappings_over_the_day(written: tuple[Path, Records]) -> None:
    """Each symbol maps to its instrument id; the interval holds every UTC date of the records."""
    raw = (written[0] / "mbo.dbn.zst").read_bytes()
    decoder = databento_dbn.DBNDecoder()
    decoder.write(zstandard.ZstdDecompressor().stream_reader(raw, read_across_frames=True).read())
    metadata = decoder.decode()[0]
    assert metadata.version == 3
    assert metadata.schema == "mbo"
    assert len(metadata.mappings) == 10
    for intervals in metadata.mappings.values():
        assert [i["start_date"] for i in intervals] == [DAY]
        assert intervals[0]["end_date"] > DAY
        assert int(intervals[0]["symbol"]) > 0


def test_same_options_give_the_same_bytes(day: Path, tmp_path: Path) -> None:
    """Files too, not only what is in them."""
    for name in ("one", "two"):
        with DbnFiles(tmp_path / name, ("mbo",)) as files:
            played = play(day, files, schemas=("mbo",), trading_day=DAY)
            files.finish(played.symbols, played.first_ns, played.last_ns)
    assert (tmp_path / "one/mbo.dbn.zst").read_bytes() == (tmp_path / "two/mbo.dbn.zst").read_bytes()


def test_nothing_is_left_of_files_that_were_not_finished(tmp_path: Path) -> None:
    """A replay that fails leaves no half a file under a name that a reader would open."""
    with DbnFiles(tmp_path, ("mbo", "trades")) as files:
        files.write("mbo", bytes(56))
    assert list(tmp_path.iterdir()) == []


def test_directory_that_cannot_be_made(tmp_path: Path) -> None:
    """The option and the reason."""
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match=r"--dbn: .*Not a directory|--dbn: .*File exists"):
        DbnFiles(tmp_path / "file" / "dbn", ("mbo",))


def test_full_disk(tmp_path: Path) -> None:
    """An error of the disk is a failure of the run, told in one line."""
    with DbnFiles(tmp_path, ("mbo",)) as files:
        files._parts["mbo"][0].close()
        with Path("/dev/full").open("r+b", buffering=0) as full:
            writer = zstandard.ZstdCompressor().stream_writer(full, closefd=False)
            files._parts["mbo"] = (full, writer)
            with pytest.raises(RunError, match="No space left"):
                files.write("mbo", np.random.default_rng(1).bytes(1 << 20))
