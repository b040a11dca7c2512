"""Which packets go into a store, and when a session gives way to the next."""

import struct
from pathlib import Path

import pytest

from recovery.feeders.session import SessionFeeder
from recovery.store import MessageStore

ONE, TWO, THREE = b"SESSION01 ", b"SESSION02 ", b"SESSION03 "
END = 0xFFFF


def packet(session: bytes, first: int, *messages: bytes, count: int | None = None) -> bytes:
    """A downstream packet."""
    head = struct.pack(">10sQH", session, first, len(messages) if count is None else count)
    return head + b"".join(struct.pack(">H", len(m)) + m for m in messages)


def held(store: MessageStore) -> dict[int, bytes]:
    """What the store has."""
    return dict(store.messages())


def test_both_lines_together_make_the_session() -> None:
    """Each line has lost something; the first copy of each message counts once."""
    with MessageStore.create() as store:
        feeder = SessionFeeder(store)
        assert feeder.on_packet(packet(ONE, 1, b"a", b"b")) == 2
        assert feeder.on_packet(packet(ONE, 2, b"b", b"c")) == 1
        assert feeder.on_packet(packet(ONE, 5, b"e")) == 1
        assert feeder.on_packet(packet(ONE, 3, b"c", b"d")) == 1
        assert held(store) == {1: b"a", 2: b"b", 3: b"c", 4: b"d", 5: b"e"}
        assert (feeder.counters.packets, feeder.counters.messages) == (4, 5)


def test_packet_of_another_session_before_the_end_is_foreign() -> None:
    """A stray does not empty the store."""
    with MessageStore.create() as store:
        feeder = SessionFeeder(store)
        feeder.on_packet(packet(ONE, 1, b"a"))
        assert feeder.on_packet(packet(TWO, 1, b"x")) == 0
        assert (store.session, held(store)) == (ONE, {1: b"a"})
        assert feeder.counters.foreign_session == 1


def test_next_session_begins_after_the_end_was_told_and_late_packets_do_not_bring_the_old_one_back() -> None:
    """After the end of session another one starts at its own numbers; the old one's repeats are foreign."""
    with MessageStore.create() as store:
        feeder = SessionFeeder(store)
        feeder.on_packet(packet(ONE, 1, b"a"))
        feeder.on_packet(packet(ONE, 2, count=END))
        feeder.on_packet(packet(TWO, 1, b"x"))
        assert (store.session, held(store)) == (TWO, {1: b"x"})
        feeder.on_packet(packet(ONE, 2, count=END))
        feeder.on_packet(packet(TWO, 2, count=END))
        feeder.on_packet(packet(ONE, 1, b"a"))
        assert (store.session, held(store)) == (TWO, {1: b"x"})
        feeder.on_packet(packet(THREE, 1, b"y"))
        assert (store.session, held(store)) == (THREE, {1: b"y"})


SECOND = 10**9
MIDNIGHT = 1_793_682_000 * SECOND  # 2026-11-03 in New York


@pytest.mark.parametrize("ended", [False, True])
def test_other_message_of_number_1_begins_the_session_anew(ended: bool) -> None:
    """After the end, or a silence, the exchange began again under the same name: nothing old is served."""
    with MessageStore.create() as store:
        feeder = SessionFeeder(store)
        feeder.on_packet(packet(ONE, 1, b"a", b"b", b"c"), MIDNIGHT)
        if ended:
            feeder.on_packet(packet(ONE, 4, count=END), MIDNIGHT)
        assert feeder.on_packet(packet(ONE, 1, b"x"), MIDNIGHT + (0 if ended else 3 * SECOND)) == 1
        assert held(store) == {1: b"x"}
        assert (feeder.end, feeder.known) == (0, 2)


@pytest.mark.parametrize(
    ("heard", "left"),
    [
        ([packet(ONE, 1, b"x"), packet(ONE, 3, b"z")], {1: b"x", 3: b"z"}),  # another run
        ([packet(ONE, 2, b"y"), packet(ONE, 1, b"x")], {1: b"x", 2: b"y"}),
        ([packet(ONE, 4, b"d"), packet(ONE, 2, b"b")], {1: b"a", 2: b"b", 3: b"c", 4: b"d"}),  # the same one
        (
            [packet(ONE, 2, b"b"), packet(ONE, 3, b"x")],
            {1: b"a", 2: b"b", 3: b"c"},
        ),  # known by now
        ([packet(ONE, 1, b"x") + b"\0", packet(ONE, 2)], {1: b"a", 2: b"b", 3: b"c"}),  # damaged; a heartbeat
    ],
)
def test_kept_store_of_an_earlier_run_of_the_session_is_not_served(
    tmp_path: Path, heard: list[bytes], left: dict[int, bytes]
) -> None:
    """The exchange began again under the same name while nobody listened: the first overlap tells."""
    path = tmp_path / "store"
    with MessageStore.create(path) as store:
        SessionFeeder(store).on_packet(packet(ONE, 1, b"a", b"b", b"c"), MIDNIGHT)
    with MessageStore.open(path, writable=True) as store:
        feeder = SessionFeeder(store)
        for number, payload in enumerate(heard):
            feeder.on_packet(payload, MIDNIGHT + number)
        assert held(store) == left


@pytest.mark.parametrize(
    ("late", "after_s"),
    [
        (packet(ONE, 1, b"a", b"b"), 60),  # a copy, however late
        (packet(ONE, 1, b"x"), 1),  # no silence: the first copy wins
        (packet(ONE, 1, b"x") + b"\0", 60),  # damaged
        (packet(ONE, 1, b"x", count=2), 60),
        (packet(ONE, 1), 60),  # a heartbeat tells nothing of the content
        (packet(ONE, 2, b"x"), 60),
    ],
)
def test_nothing_else_begins_a_session_anew(late: bytes, after_s: int) -> None:
    """What is held stays."""
    with MessageStore.create() as store:
        feeder = SessionFeeder(store)
        feeder.on_packet(packet(ONE, 1, b"a", b"b", b"c"), MIDNIGHT)
        assert feeder.on_packet(late, MIDNIGHT + after_s * SECOND) == 0
        assert held(store) == {1: b"a", 2: b"b", 3: b"c"}


@pytest.mark.parametrize(
    ("heard", "now", "adopted"),
    [
        (MIDNIGHT - 4 * SECOND, MIDNIGHT, True),
        (MIDNIGHT - 2 * SECOND, MIDNIGHT, False),  # not silent
        (MIDNIGHT, MIDNIGHT + 3600 * SECOND, False),  # the same day
        (MIDNIGHT, MIDNIGHT - SECOND, False),  # the clock was set back
    ],
)
def test_session_whose_end_was_not_heard_gives_way_when_its_day_is_over(
    heard: int, now: int, adopted: bool
) -> None:
    """New York's day, and silence."""
    with MessageStore.create() as store:
        feeder = SessionFeeder(store)
        feeder.on_packet(packet(ONE, 1, b"a"), heard)
        feeder.on_packet(packet(TWO, 1, b"x"), now)
        assert held(store) == ({1: b"x"} if adopted else {1: b"a"})


def test_configured_session_never_gives_way() -> None:
    """No other is taken, before or after its end."""
    with MessageStore.create() as store:
        feeder = SessionFeeder(store, TWO)
        feeder.on_packet(packet(ONE, 1, b"a"))
        feeder.on_packet(packet(TWO, 1, b"x"))
        feeder.on_packet(packet(TWO, 2, count=END))
        feeder.on_packet(packet(THREE, 1, b"y"))
        assert (store.session, held(store)) == (TWO, {1: b"x"})
        assert feeder.counters.foreign_session == 2


def test_store_of_yesterday_gives_way_to_todays_session() -> None:
    """Started again on an old store: the same session goes on, another one replaces it.

    Without an end being told.
    """
    with MessageStore.create(session=ONE) as store:
        store.append(1, b"a")
        SessionFeeder(store).on_packet(packet(ONE, 2, b"b"))
        assert held(store) == {1: b"a", 2: b"b"}
        SessionFeeder(store).on_packet(packet(TWO, 7, b"x"))
        assert (store.session, held(store)) == (TWO, {7: b"x"})


@pytest.mark.parametrize(
    "damaged",
    [
        packet(ONE, 2, b"b")[:19],
        packet(ONE, 2, b"b")[:-1],
        packet(ONE, 2, b"b") + b"\0",
        packet(ONE, 2, b"b", count=2),
        packet(ONE, 2, count=END) + b"x",
        packet(ONE, 0, b"b"),
        packet(ONE, 50_000_000, b"wild"),
    ],
)
def test_damaged_packet_leaves_nothing_behind(damaged: bytes) -> None:
    """Cut, too long, miscounted, number 0, or a number out of the blue: counted.

    And the store is as before.
    """
    with MessageStore.create() as store:
        feeder = SessionFeeder(store)
        feeder.on_packet(packet(ONE, 1, b"a"))
        assert feeder.on_packet(damaged) == 0
        assert (held(store), store.next_sequence, feeder.end) == ({1: b"a"}, 2, 0)
        assert feeder.counters.malformed == 1


def test_large_jump_is_believed_once_a_second_packet_goes_on_from_it() -> None:
    """A server that was away for hours must take up the feed again."""
    with MessageStore.create() as store:
        feeder = SessionFeeder(store)
        feeder.on_packet(packet(ONE, 1, b"a"))
        assert feeder.on_packet(packet(ONE, 50_000_000, b"b")) == 0
        assert feeder.on_packet(packet(ONE, 50_000_001, b"c")) == 1
        assert feeder.on_packet(packet(ONE, 50_000_002, b"d")) == 1
