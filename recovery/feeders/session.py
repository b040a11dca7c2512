"""Packets of the feed into a store: one session at a time.

Taken over by the same rules as a channel takes it over.
"""

from dataclasses import dataclass

from feedhandler.exchange_time import day_of
from recovery.server import HEADER
from recovery.store import MessageStore

END_OF_SESSION = 0xFFFF
MAX_GAP_MESSAGES = 10_000_000
SILENCE_NS = 3_000_000_000


@dataclass
class FeedCounters:
    """What came from the feed."""

    packets: int = 0
    messages: int = 0  # new ones: the first copy wins
    malformed: int = 0
    foreign_session: int = 0


class SessionFeeder:
    """Takes MoldUDP64 packets of any number of lines, in any order.

    `session`: 10 bytes, or empty: the first one seen (a store that is used again may hold an older one, which
    gives way), and after its end was told, or its day is over and it fell silent, the next one. Another
    message of number 1, after the end or a silence, begins the session anew.
    """

    def __init__(self, store: MessageStore, session: bytes = b"") -> None:
        self.store = store
        self.counters = FeedCounters()
        self.end = 0  # of the session, once it was told
        self.known = store.next_sequence  # one past the highest number told, heartbeats included
        self._configured = session
        self._before: bytes = b""  # the session before: its late packets start nothing
        self._adopted = False
        self._confirmed = len(store) == 0  # what an earlier run has stored is of the run that is on
        self._suspect = 0
        self._heard_ns = 0  # when the session was last; 0: not known
        if session and store.session != session:
            store.reset(session)

    def on_packet(self, payload: bytes | memoryview, now_ns: int = 0) -> int:
        """Take one UDP payload, received at `now_ns` UTC (0: not known); return how many were new."""
        counters, store = self.counters, self.store
        counters.packets += 1
        if len(payload) < HEADER.size:
            counters.malformed += 1
            return 0
        session, sequence, count = HEADER.unpack_from(payload)
        if session != store.session or not self._adopted:
            if not self._may_adopt(session, now_ns):
                counters.foreign_session += 1
                return 0
            self._adopt(session)
        elif sequence == 1 and self._starts_anew(payload, count, now_ns):
            store.reset(session)
            self._adopt(session)
        if not self._confirmed:
            self._confirm(session, sequence, payload, count)
        self._heard_ns = max(self._heard_ns, now_ns)
        messages = 0 if count == END_OF_SESSION else count
        if not self._plausible(sequence, sequence + messages):
            counters.malformed += 1
            return 0
        try:
            new = store.append_blocks(sequence, messages, payload[HEADER.size :])
        except ValueError:
            counters.malformed += 1
            return 0
        self.known = max(self.known, sequence + messages)
        if count == END_OF_SESSION:
            self.end = sequence
        counters.messages += new
        return new

    def _may_adopt(self, session: bytes, now_ns: int) -> bool:
        if self._configured:
            return session == self._configured
        if not self._adopted:
            return True
        over = self.end or (self._is_silent(now_ns) and day_of(now_ns) > day_of(self._heard_ns))
        return bool(over) and session != self._before

    def _is_silent(self, now_ns: int) -> bool:
        return self._heard_ns > 0 and now_ns - self._heard_ns >= SILENCE_NS

    def _starts_anew(self, payload: bytes | memoryview, count: int, now_ns: int) -> bool:
        """Tell whether the exchange has begun again under the same name: its number 1 is another message."""
        if not (self.end or self._is_silent(now_ns)):
            return False
        held, block = self.store.messages_from(1, 1, 1 << 17)
        return held == 1 and _whole(payload, count) and payload[HEADER.size :][: len(block)] != block

    def _confirm(self, session: bytes, sequence: int, payload: bytes | memoryview, count: int) -> None:
        """Hold the first packet that the store has already against it: another message is another run's."""
        held, block = self.store.messages_from(sequence, 1, 1 << 17)
        if not held or not _whole(payload, count):
            return
        self._confirmed = True
        if payload[HEADER.size :][: len(block)] != block:
            self.store.reset(session)
            self._adopt(session)

    def _adopt(self, session: bytes) -> None:
        if session != self.store.session:
            self._before = self.store.session
            self.store.reset(session)
            self._confirmed = True
        self._adopted = True
        self.end = self._suspect = 0
        self.known = self.store.next_sequence

    def _plausible(self, sequence: int, end: int) -> bool:
        """A number absurdly far ahead counts only when a second packet goes on from it."""
        if self.known == 1 or sequence - self.known <= MAX_GAP_MESSAGES:
            return True
        confirmed = 0 < self._suspect <= sequence <= self._suspect + MAX_GAP_MESSAGES
        self._suspect = 0 if confirmed else end
        return confirmed


def _whole(payload: bytes | memoryview, count: int) -> bool:
    """Tell whether `count` message blocks, at least one, end exactly where the packet ends."""
    at = HEADER.size
    for _ in range(count if count != END_OF_SESSION else 0):
        if at + 2 > len(payload):
            return False
        at += 2 + (payload[at] << 8 | payload[at + 1])
    return count > 0 and at == len(payload)
