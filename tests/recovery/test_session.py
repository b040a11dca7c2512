"""Which packets go into a store, and when a session gives way to the next."""

import struct

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
