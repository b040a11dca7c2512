"""What a journal tells a daemon that starts again: the session that is on, and its books."""

import random
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest

from feedhandler import _core
from feedhandler.journal import session
from feedhandler.journal.archive import compress
from feedhandler.journal.segments import PART, PLAIN, segment_path, segments
from feedhandler.journal.session import Held, UselessError, find, of_today, open_all
from tests.support.exchange import HEADER, packet, simulated_messages
from tests.support.journal import FIRST_REPLY_LINE, Channel
from tests.support.order_books import OrderBooks

SESSION, OTHER = b"SESSION001", b"SESSION002"
NOW = time.time_ns()
SECOND = 10**9
Packets = Sequence[tuple[int, bytes]]


@pytest.fixture(scope="module")
def day() -> list[bytes]:
    """One simulated day."""
    return simulated_messages(4000)


def lines(day: Sequence[bytes], first: int, end: int, session: bytes = SESSION, per: int = 10) -> Packets:
    """Messages first to end - 1 on both lines."""
    return [
        (line, packet(session, at, day[at - 1 : min(at + per, end) - 1]))
        for at in range(first, end, per)
        for line in (0, 1)
    ]


def write(tmp_path: Path, packets: Packets, kind: str = PLAIN, start_ns: int = NOW, step_ns: int = 1) -> Path:
    """Write a segment of the channel `live` as the journal does; returns the journal's directory."""
    directory = tmp_path / "journal"
    directory.mkdir(exist_ok=True)
    ring = Channel(tmp_path / f"channel-{start_ns}").ring
    for index, (line, payload) in enumerate(packets):
        ring.put(line, payload, start_ns + index * step_ns)
    journal = _core.Journal(str(tmp_path / f"channel-{start_ns}"))
    path = segment_path(directory, "live", start_ns)
    journal.open(str(path), 8 << 20, 10**18)
    while journal.pump():
        pass
    if kind != PART:
        journal.close()
        path = path.rename(path.with_name(path.name.removesuffix(".part")))
    if kind == ".pcap.zst":
        [segment] = [s for s in segments(directory) if s.path == path]
        assert compress(segment, threading.Event())
    return directory


def look(directory: Path, stack: ExitStack, session: str = "") -> Held:
    """What the journal holds of the session that is on."""
    opened = open_all(directory, "live")
    for one in opened:
        stack.callback(one.file.close)
    return find(opened, NOW, session)


def image_of(held: Held) -> _core.JournalImage:
    """The books of it."""
    image = _core.JournalImage(held.session, 0)
    for one in held.segments:
        image.begin_segment()
        for chunk in one.chunks():
            image.read(chunk)
    return image


def orders_after(messages: Sequence[bytes]) -> int:
    """Live orders of the plain model."""
    books = OrderBooks()
    for message in messages:
        books.apply(message)
    return len(books.orders)


def test_session_over_segments_of_every_kind(tmp_path: Path, day: list[bytes]) -> None:
    """Compressed, finished and open segments; what lies before number 1 is left out."""
    write(tmp_path, lines(day, 1, 101, OTHER), start_ns=NOW - 9 * SECOND)
    write(tmp_path, lines(day, 1, 1001), ".pcap.zst", start_ns=NOW - 8 * SECOND)
    write(tmp_path, lines(day, 1001, 2001), start_ns=NOW - 7 * SECOND)
    directory = write(tmp_path, lines(day, 2001, 3001), PART, start_ns=NOW - 6 * SECOND)
    with ExitStack() as stack:
        held = look(directory, stack)
        assert (held.name, held.next, len(held.segments)) == ("SESSION001", 3001, 3)
        assert held.bytes == sum(len(chunk) for one in held.segments for chunk in one.chunks())
        image = image_of(held)
        assert (image.failure, image.next_sequence) == ("", 3001)
        assert image.orders == orders_after(day[:3000])
        assert of_today(directory, "live", NOW)
        assert not of_today(directory, "other", NOW)


def test_segment_stays_readable_when_the_journal_finishes_and_removes_it(
    tmp_path: Path, day: list[bytes]
) -> None:
    """Renamed, cut to its size, compressed, deleted: the files that were opened tell the same."""
    directory = write(tmp_path, lines(day, 1, 2001), PART)
    with ExitStack() as stack:
        held = look(directory, stack)
        for path in directory.iterdir():
            path.unlink()
        assert image_of(held).next_sequence == 2001


def test_books_are_as_of_the_first_number_that_is_missing(tmp_path: Path, day: list[bytes]) -> None:
    """Replies fill holes that the lines had; a hole that nobody filled ends the books, not the journal."""
    packets = [*lines(day, 1, 501), *lines(day, 601, 1001), *lines(day, 1101, 2001)]
    packets += [(FIRST_REPLY_LINE, payload) for line, payload in lines(day, 501, 601) if line == 0]
    directory = write(tmp_path, packets)
    with ExitStack() as stack:
        held = look(directory, stack)
        image = image_of(held)
        assert (held.next, image.next_sequence, image.failure) == (2001, 1001, "")
        assert image.orders == orders_after(day[:1000])


def test_last_segment_of_replies_only_is_read_too(tmp_path: Path, day: list[bytes]) -> None:
    """A segment may be over between what the lines brought and what was asked for."""
    write(tmp_path, [*lines(day, 1, 501), *lines(day, 601, 4001)], start_ns=NOW - SECOND)
    replies = [(FIRST_REPLY_LINE, payload) for line, payload in lines(day, 501, 601) if line == 0]
    directory = write(tmp_path, replies)
    with ExitStack() as stack:
        image = image_of(look(directory, stack))
        assert (image.next_sequence, image.orders) == (4001, orders_after(day))


def test_pieces_of_any_size_give_the_same_books(tmp_path: Path, day: list[bytes]) -> None:
    """The reader of records keeps what is not whole yet."""
    directory = write(tmp_path, lines(day, 1, 501))
    data = next(directory.glob("*.pcap")).read_bytes()
    chance = random.Random(5)
    for longest in (1, 7, 60, 5000):
        image = _core.JournalImage(SESSION, 0)
        image.begin_segment()
        at = 0
        while at < len(data):
            step = chance.randint(1, longest)
            image.read(data[at : at + step])
            at += step
        assert (image.next_sequence, image.orders) == (501, orders_after(day[:500]))


def test_torn_tail_is_not_read(tmp_path: Path, day: list[bytes]) -> None:
    """A power cut took a page: the chain of whole records ends there."""
    directory = write(tmp_path, lines(day, 1, 2001), PART)
    [path] = directory.glob("*.part")
    with path.open("r+b") as file:
        file.seek(20_000)
        file.write(bytes(4096))
    with ExitStack() as stack:
        image = image_of(look(directory, stack))
        assert 1 < image.next_sequence < 2001
        assert image.orders == orders_after(day[: image.next_sequence - 1])


@pytest.mark.parametrize(
    ("packets", "reason"),
    [
        ([], "no packets of a session"),
        ([(0, b"noise")], "no packets of a session"),
        ([(0, HEADER.pack(SESSION, 7, 0))], "begins at number 7"),
        ([(0, HEADER.pack(SESSION, 1, 0)), (0, HEADER.pack(SESSION, 1, 0xFFFF))], "SESSION001 has ended"),
    ],
)
def test_journal_that_cannot_tell_says_why(tmp_path: Path, packets: Packets, reason: str) -> None:
    """One line, for the log."""
    directory = write(tmp_path, packets)
    with ExitStack() as stack, pytest.raises(UselessError, match=reason):
        look(directory, stack)


def test_journal_of_another_day_is_no_help(tmp_path: Path, day: list[bytes]) -> None:
    """Its session may have had the same name."""
    directory = write(tmp_path, lines(day, 1, 101), start_ns=NOW - 36 * 3600 * SECOND)
    with ExitStack() as stack, pytest.raises(UselessError, match="another day"):
        look(directory, stack)


def test_configured_session_is_not_looked_for_in_the_days_before(
    tmp_path: Path, day: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The newest segment says that there is none of today: the others are not read, a week of them."""
    for days in range(1, 8):
        directory = write(tmp_path, lines(day, 1, 11), start_ns=NOW - days * 86400 * SECOND)
    read, survey = [], session._survey
    monkeypatch.setattr(session, "_survey", lambda one, *rest: read.append(one) or survey(one, *rest))
    with ExitStack() as stack, pytest.raises(UselessError, match="nothing of session LIVETEST09 today"):
        look(directory, stack, "LIVETEST09")
    assert len(read) == 1


@pytest.mark.parametrize(
    ("again", "apart_ns"), [(b"another", SECOND), (b"", 4 * SECOND)], ids=["another message", "after silence"]
)
def test_numbers_that_begin_again_soon_are_not_believed(
    tmp_path: Path, day: list[bytes], again: bytes, apart_ns: int
) -> None:
    """Another number 1, or any after all lines were silent: as a live feed takes it."""
    begin = [again] if again else day[:1]
    packets = [
        (0, packet(SESSION, 1, day[:3])),
        (0, packet(SESSION, 1, begin)),
        (0, packet(SESSION, 2, day[1:2])),
    ]
    directory = write(tmp_path, packets, start_ns=NOW - 20 * SECOND, step_ns=apart_ns)
    with ExitStack() as stack:
        assert "begin again" in image_of(look(directory, stack)).failure


def test_late_copy_of_number_1_begins_nothing(tmp_path: Path, day: list[bytes]) -> None:
    """The other line's, in a packet of another size."""
    packets = [
        (0, packet(SESSION, 1, day[:3])),
        (1, packet(SESSION, 1, day[:1])),
        (1, packet(SESSION, 2, day[1:4])),
    ]
    directory = write(tmp_path, packets, start_ns=NOW - 20 * SECOND, step_ns=SECOND)
    with ExitStack() as stack:
        image = image_of(look(directory, stack))
        assert (image.failure, image.next_sequence, image.last_message) == ("", 5, day[3])


def test_numbers_that_begin_again_under_one_name_are_not_believed(tmp_path: Path, day: list[bytes]) -> None:
    """Two runs of an exchange: nobody can tell whose number 2 is wanted."""
    packets = [
        (0, packet(SESSION, 1, day[:1])),
        (0, HEADER.pack(SESSION, 2, 0)),
        (0, packet(SESSION, 1, day[:3])),
    ]
    directory = write(tmp_path, packets, start_ns=NOW - 200 * SECOND, step_ns=61 * SECOND)
    with ExitStack() as stack:
        assert "begin again" in image_of(look(directory, stack)).failure


def test_configured_session_and_stray_packets(tmp_path: Path, day: list[bytes]) -> None:
    """A stray packet makes no session, and a damaged number is no number."""
    packets = [*lines(day, 1, 201), (0, packet(OTHER, 77, day[:1])), (1, packet(SESSION, 10**12, day[:1]))]
    directory = write(tmp_path, packets)
    with ExitStack() as stack:
        assert (look(directory, stack).name, look(directory, stack).next) == ("SESSION001", 201)
        with pytest.raises(UselessError, match="begins at number 77"):
            look(directory, stack, "SESSION002")
        with pytest.raises(UselessError, match="no packets"):
            look(directory, stack, "SESSION003")


def test_file_that_is_no_segment_is_refused() -> None:
    """Neither its header nor a record of impossible length is taken for packets."""
    image = _core.JournalImage(SESSION, 0)
    with pytest.raises(ValueError, match="not a segment"):
        image.read(bytes(100))
    assert image.failure == "it holds nothing of the session"
