"""`feedhandler export`: one file a schema and trading day, as other readers see them."""

import json
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pytest
import zstandard

from feedhandler import _core
from feedhandler.cli import main
from feedhandler.consumer.schema import DTYPES
from feedhandler.journal import segments
from feedhandler.journal.archive import compress
from feedhandler.journal.segments import PACKED, PLAIN, segment_path
from feedhandler.replay import source
from tests.support.exchange import simulated_messages
from tests.support.model_dialect import modified
from tests.support.replay_files import GROUP_A, GROUP_B, link, mold, mold_end, pcap, udp

Run = Callable[..., tuple[int, str, str]]
ALL = ("mbo", "mbp-1", "mbp-10", "trades", "status", "imbalance", "definition")


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Return a function that runs a command: (exit status, stdout, stderr)."""

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["feedhandler", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        captured = capsys.readouterr()
        return int(ended.value.code or 0), captured.out, captured.err

    return call


def day_of_packets(messages: list[bytes], session: bytes, midnight_ns: int) -> list[tuple[int, bytes]]:
    """Return the frames of both lines, each received just after its last message's time."""
    frames, at = [], 0
    for first in range(0, len(messages), 10):
        block = messages[first : first + 10]
        at = midnight_ns + int.from_bytes(block[-1][5:11]) + 1000
        for group in (GROUP_A, GROUP_B):
            frames.append((at, link(udp(mold(first + 1, block, session), group))))
    for group in (GROUP_A, GROUP_B):
        frames.append((at + 1000, link(udp(mold_end(len(messages) + 1, session), group))))
    return frames


MIDNIGHTS = {  # around the end of daylight saving, UTC
    "2026-10-30": int(datetime(2026, 10, 30, 4, tzinfo=UTC).timestamp()) * 10**9,
    "2026-11-02": int(datetime(2026, 11, 2, 5, tzinfo=UTC).timestamp()) * 10**9,
}


@pytest.fixture(scope="module")
def two_days() -> dict[str, list[bytes]]:
    """Return the messages of a Friday and the Monday after it."""
    return {day: simulated_messages(1500, seed=seed) for seed, day in enumerate(MIDNIGHTS, 1)}


@pytest.fixture(scope="module")
def journal(two_days: dict[str, list[bytes]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory of segments, compressed and not; the second one holds packets of both days."""
    directory = tmp_path_factory.mktemp("journal")
    frames = []
    for number, (day, messages) in enumerate(two_days.items()):
        frames += day_of_packets(messages, b"SESSION%02d " % number, MIDNIGHTS[day])
    cut = len(frames) // 3
    for number, part in enumerate((frames[:cut], frames[cut : 2 * cut], frames[2 * cut :])):
        path = segment_path(directory, "live", part[0][0])
        name, data = path.name.removesuffix(".pcap.part"), pcap(part)
        if number == 0:
            (directory / (name + PACKED)).write_bytes(zstandard.compress(data))
        else:
            (directory / (name + PLAIN)).write_bytes(data)
    return directory


def replayed(run: Run, folder: Path, messages: list[bytes], day: str) -> dict[str, bytes]:
    """Return the records of the day alone, as `replay --dbn` gives them."""
    path = folder / f"{day}.pcap"
    path.write_bytes(pcap(day_of_packets(messages, b"SESSION00 ", MIDNIGHTS[day])))
    status, _, err = run("replay", path, "--dbn", folder / day, *[f"--schema={s}" for s in ALL])
    assert status == 0, err
    return {schema: records_of(folder / day / f"{schema}.dbn.zst") for schema in ALL}


def records_of(path: Path) -> bytes:
    """Return the bytes behind the metadata."""
    data = zstandard.ZstdDecompressor().stream_reader(path.read_bytes(), read_across_frames=True).read()
    (length,) = struct.unpack_from("<I", data, 4)
    return data[8 + length :]


def test_each_trading_day_has_its_own_files_as_a_replay_of_it_alone_gives(
    run: Run, journal: Path, two_days: dict[str, list[bytes]], tmp_path: Path
) -> None:
    """Two days across a weekend and a change of the clocks, one segment shared: every byte."""
    schemas = [f"--schema={schema}" for schema in ALL]
    status, out, err = run("export", journal, "-o", tmp_path / "out", "--json", *schemas)
    assert (status, err) == (0, "")
    assert [day["date"] for day in json.loads(out)["days"]] == list(two_days)
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {f"xnas-itch-{d.replace('-', '')}.{s}.dbn.zst" for d in two_days for s in ALL}
    for day, messages in two_days.items():
        expected = replayed(run, tmp_path, messages, day)
        for schema in ALL:
            path = tmp_path / "out" / f"xnas-itch-{day.replace('-', '')}.{schema}.dbn.zst"
            assert records_of(path) == expected[schema], (day, schema)
            assert expected[schema]


@pytest.mark.parametrize(
    ("day", "begin", "end"),
    [
        ("2026-03-08", "2026-03-08T05:00", "2026-03-09T04:00"),
        ("2026-11-01", "2026-11-01T04:00", "2026-11-02T05:00"),
        ("2026-06-15", "2026-06-15T04:00", "2026-06-16T04:00"),
    ],
)
@pytest.mark.parametrize("as_journal", [False, True])
def test_day_of_23_24_or_25_hours_has_the_packets_from_its_midnight_to_the_next(
    run: Run, tmp_path: Path, day: str, begin: str, end: str, as_journal: bool
) -> None:
    """To the nanosecond: the last of the day before, the first and the last of it, the first of the next."""
    first, after = (int(datetime.fromisoformat(f"{at}+00:00").timestamp()) * 10**9 for at in (begin, end))
    message = simulated_messages(1)[0]
    frames = [
        (at, link(udp(mold(number, [message], session))))
        for at, session, number in (
            (first - 1, b"BEFORE    ", 1),
            (first, b"THE DAY   ", 1),
            (after - 1, b"THE DAY   ", 2),
            (after, b"AFTER     ", 1),
        )
    ]
    source = tmp_path / "journal"
    if as_journal:
        source.mkdir()
        for part in (frames[:1], frames[1:3], frames[3:]):
            segment_path(source, "live", part[0][0]).with_suffix("").write_bytes(pcap(part))
    else:
        source.write_bytes(pcap(frames))
    status, out, err = run("export", source, "-o", tmp_path / "out", "--json")
    assert (status, err) == (0, "")
    days = json.loads(out)["days"]
    assert [exported["messages"] for exported in days] == [1, 2, 1]
    assert days[1]["date"] == day


def test_session_of_one_name_on_two_days_is_exported_for_each(run: Run, tmp_path: Path) -> None:
    """An exchange that begins again at number 1 under the name of the day before."""
    path = tmp_path / "twice.pcap"
    days = {day: simulated_messages(300, seed=seed) for seed, day in enumerate(MIDNIGHTS, 1)}
    path.write_bytes(
        pcap(
            [f for day, messages in days.items() for f in day_of_packets(messages, b"S" * 10, MIDNIGHTS[day])]
        )
    )
    status, out, err = run("export", path, "-o", tmp_path / "out", "--json", "--schema", "mbo")
    assert (status, err) == (0, "")
    for exported, (day, messages) in zip(json.loads(out)["days"], days.items(), strict=True):
        assert (exported["date"], exported["messages"]) == (day, len(messages))
        records = np.frombuffer(records_of(Path(exported["files"][0])), DTYPES["mbo"])
        times = {MIDNIGHTS[day] + int.from_bytes(message[5:11]) for message in messages}
        assert set(records["ts_event"].tolist()) <= times


def test_databento_reads_the_files_unmodified(run: Run, journal: Path, tmp_path: Path) -> None:
    """Every record with its symbol in its data frames."""
    code = (
        "import sys, warnings; warnings.simplefilter('ignore'); import databento\n"
        "for path in sys.argv[1:]:\n"
        "    store = databento.DBNStore.from_file(path); frame = store.to_df()\n"
        "    print(store.schema, len(frame), frame['symbol'].isna().sum(), frame.index.min().date())\n"
    )
    schemas = ("--schema=mbo", "--schema=trades")
    assert run("export", journal, "-o", tmp_path, "--date", "2026-11-02", *schemas)[0] == 0
    paths = sorted(tmp_path.glob("*.dbn.zst"))
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, paths)], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    rows = [line.split() for line in done.stdout.splitlines()]
    sizes = [len(records_of(path)) // DTYPES[path.name.split(".")[1]].itemsize for path in paths]
    assert rows == [
        ["mbo", str(sizes[0]), "0", "2026-11-02"],
        ["trades", str(sizes[1]), "0", "2026-11-02"],
    ]


def test_modify_dialect_is_the_other_one_with_partial_cancels_as_modifications(
    run: Run, journal: Path, tmp_path: Path
) -> None:
    """Record by record against a naive model; some of each kind are there."""
    rows = {}
    for dialect in ("databento", "modify"):
        arguments = ("--schema=mbo", "--dialect", dialect, "--date", "2026-10-30")
        assert run("export", journal, "-o", tmp_path / dialect, *arguments)[0] == 0
        path = tmp_path / dialect / "xnas-itch-20261030.mbo.dbn.zst"
        records = np.frombuffer(records_of(path), DTYPES["mbo"])
        names = records.dtype.names or ()
        rows[dialect] = [dict(zip(names, row, strict=True)) for row in records.tolist()]
    assert rows["modify"] == modified(rows["databento"])
    actions = [row["action"] for row in rows["modify"]]
    assert actions.count(b"M") > 20
    assert actions.count(b"C") > 20


def test_modify_dialect_forgets_the_orders_of_a_cleared_book() -> None:
    """After R an order of the same number is a new one; one never added stays cancelled."""
    records = np.zeros(7, DTYPES["mbo"])
    records["instrument_id"] = [1, 2, 1, 1, 2, 2, 1]
    records["order_id"] = [5, 6, 0, 5, 6, 6, 5]
    records["action"] = [b"A", b"A", b"R", b"C", b"C", b"C", b"A"]
    records["size"] = [100, 100, 0, 30, 30, 70, 10]
    out = np.frombuffer(_core.ModifyDialect().apply(records.tobytes()), DTYPES["mbo"])
    assert out["action"].tolist() == [b"A", b"A", b"R", b"C", b"M", b"C", b"A"]
    assert out["size"].tolist() == [100, 100, 0, 30, 70, 70, 10]


def test_times_that_the_journal_doubts_are_flagged(
    run: Run, two_days: dict[str, list[bytes]], tmp_path: Path
) -> None:
    """F_BAD_TS_RECV on the records of exactly those packets; other captures' MACs say nothing of times.

    What a re-request server gave, on the messages of the hole that it filled.
    """
    day, messages = next(iter(two_days.items()))
    frames, doubted, replies = [], set(), (35, 44)
    for number, (at, frame) in enumerate(day_of_packets(messages, b"SESSION01 ", MIDNIGHTS[day])):
        packet, line = divmod(number, 2)  # the first copy of a packet brings its messages
        told = [2, 2 | 4, 3, 3 | 4, 1, 1 | 4, 8 | 4, 0][packet % 8]  # 8: no kind that there is
        mac = bytes([2, 0x46, 0x48, 0x4B if packet % 16 == 9 else 0x4A, told, 0])
        if line == 0:
            if told & 4 and told < 8 and packet % 16 != 9:
                doubted.update(range(10 * packet + 1, 10 * packet + 11))
            if packet in replies:  # from server 0, to nobody
                ip = frame[14:30] + bytes(4) + frame[34:36] + bytes(2) + frame[38:]
                frame = bytes(6) + mac[:5] + b"\x08" + frame[12:14] + ip
            else:
                frame = frame[:6] + mac + frame[12:]
        elif packet in replies:  # lost on both lines
            continue
        frames.append((at, frame))
    path = segment_path(tmp_path, "live", frames[0][0])
    (tmp_path / (path.name.removesuffix(".pcap.part") + PLAIN)).write_bytes(pcap(frames))
    status, _, err = run("export", tmp_path, "-o", tmp_path / "out", "--schema", "mbo")
    assert status == 0, err
    [file] = (tmp_path / "out").rglob("*.mbo.dbn.zst")
    records = np.frombuffer(records_of(file), DTYPES["mbo"])
    flagged = records["flags"] & 8 != 0
    assert 0 < flagged.sum() < len(records)
    assert (flagged == np.isin(records["sequence"], sorted(doubted))).all()


def test_symbols_are_the_only_ones_in_the_files(run: Run, journal: Path, tmp_path: Path) -> None:
    """All records of the symbol and of no other."""
    from pyarrow import parquet

    arguments = ("--format", "parquet", "--schema", "mbo")
    assert run("export", journal, "-o", tmp_path / "all", *arguments)[0] == 0
    symbols = parquet.read_table(tmp_path / "all" / "xnas-itch-20261030.mbo.parquet")["symbol"].to_pylist()
    assert run("export", journal, "-o", tmp_path / "one", *arguments, "--symbols", symbols[0])[0] == 0
    one = parquet.read_table(tmp_path / "one" / "xnas-itch-20261030.mbo.parquet")["symbol"].to_pylist()
    assert one == [symbol for symbol in symbols if symbol == symbols[0]]
    assert len(one) < len(symbols)


def test_parquet_has_the_same_values_as_dbn(run: Run, journal: Path, tmp_path: Path) -> None:
    """Every column of every schema, symbols as the mappings have them."""
    from pyarrow import parquet

    schemas = [f"--schema={schema}" for schema in ALL]
    for file_format in ("dbn", "parquet"):
        assert run("export", journal, "-o", tmp_path, "--format", file_format, *schemas)[0] == 0
    for schema in ALL:
        stem = f"xnas-itch-20261102.{schema}"
        records = np.frombuffer(records_of(tmp_path / f"{stem}.dbn.zst"), DTYPES[schema])
        table = parquet.read_table(tmp_path / f"{stem}.parquet")
        assert table.num_rows == len(records)
        for name in table.column_names[:-1]:
            column, values = table[name], records[name]
            if str(column.type).startswith("timestamp"):
                assert column.cast("int64").fill_null(-1).to_pylist() == values.astype(np.int64).tolist()
            elif values.dtype.kind == "S":
                assert column.to_pylist() == values.astype("U").tolist()
            else:
                assert column.to_pylist() == values.tolist()
        assert None not in table["symbol"].to_pylist()


def test_capture_with_a_lost_message_is_exported_flagged_and_exits_1(run: Run, tmp_path: Path) -> None:
    """What is nowhere in the file is lost: the rest is there, one line says how much is missing."""
    frames = day_of_packets(simulated_messages(300), b"SESSION00 ", MIDNIGHTS["2026-10-30"])
    del frames[20:22]
    path = tmp_path / "holed.pcap"
    path.write_bytes(pcap(frames))
    status, out, err = run("export", path, "-o", tmp_path / "out")
    assert status == 1
    assert "10 messages are not in the journal" in err
    assert "2026-10-30 trades: " in out


def test_segment_that_is_compressed_just_when_it_was_read_is_there_once(
    journal: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a journal that is being written: its records are not put together twice."""
    for path in journal.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    once = len(source.open_source(tmp_path).data)
    contents_of = segments.contents_of

    def compressed_meanwhile(segment: segments.Segment, file: BinaryIO) -> Iterator[bytes]:
        yield from contents_of(segment, file)
        if segment.kind == PLAIN:
            assert compress(segment, threading.Event())

    monkeypatch.setattr(segments, "contents_of", compressed_meanwhile)
    assert len(source.open_source(tmp_path).data) == once
    assert not list(tmp_path.glob("*.pcap"))


def test_truncated_compressed_segment_is_exported_up_to_its_end_and_exits_1(
    run: Run, journal: Path, tmp_path: Path
) -> None:
    """The packets that can be unpacked are used, those of the segments behind it too."""
    for path in journal.iterdir():
        data = path.read_bytes()
        (tmp_path / path.name).write_bytes(data[: len(data) * 2 // 3] if path.suffix == ".zst" else data)
    status, out, err = run("export", tmp_path, "-o", tmp_path / "out", "--json")
    assert status == 1
    assert "the zstd stream ends too early; what lies before it was played" in err
    assert [day["date"] for day in json.loads(out)["days"]] == list(MIDNIGHTS)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--schema", "mbo2"], '--schema: "mbo2" is not one of mbo, '),
        (["--dialect", "modify"], '--dialect: "modify" changes mbo records only: add --schema mbo'),
        (["--date", "2026-11-03"], "has no packet of that day; its days are 2026-10-30 to 2026-11-02"),
        (["--date", "yesterday"], '--date: "yesterday" is not a date as YYYY-MM-DD'),
        (["--symbols", "TOOLONGNAME"], '"TOOLONGNAME" is not a symbol'),
        (["-o", "/proc/nowhere"], '--output: "/proc/nowhere"'),
    ],
)
def test_wrong_option_is_one_line_and_exit_status_2(
    run: Run, journal: Path, tmp_path: Path, arguments: list[str], message: str
) -> None:
    """Option, value, what is allowed."""
    status, out, err = run("export", journal, "-o", tmp_path / "out", *arguments)
    assert (status, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1


def test_parquet_without_pyarrow_says_what_to_install(
    run: Run, journal: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is written."""
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    status, _, err = run("export", journal, "-o", tmp_path / "out", "--format", "parquet")
    assert status == 2
    assert 'pip install "feedhandler[parquet]"' in err
    assert not (tmp_path / "out").exists()


def test_directory_without_segments_is_refused(run: Run, tmp_path: Path) -> None:
    """By export and by replay."""
    for arguments in (("export", tmp_path, "-o", tmp_path / "out"), ("replay", tmp_path)):
        status, _, err = run(*arguments)
        assert status == 2
        assert "is a directory without segments of a journal" in err
