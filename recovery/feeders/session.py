"""Packets of the feed into a store: one session at a time.

Taken over by the same rules as a channel takes it over.
"""

from dataclasses import dataclass

from recovery.server import HEADER
from recovery.store import MessageStore

END_OF_SESSION = 0xFFFF
MAX_GAP_MESSAGES = 10_000_000


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
    gives way), and after its end was told the next one.
    """

    def __init__(self, store: MessageStore, session: bytes = b"") -> None:
        self.store = store
        self.counters = FeedCounters()
        self.end = 0  # of the session, once it was told
        self.known = store.next_sequence  # one past the highest number told, heartbeats included
        self._configured = session
        self._before: bytes = b""  # the session before: its late packets start nothing
        self._adopted = False
        self._suspect = 0
        if session and store.session != session:
            store.reset(session)

    def on_packet(self, payload: bytes | memoryview) -> int:
        """Take one UDP payload; returns how many new messages it brought."""
        counters, store = self.counters, self.store
        counters.packets += 1
        if len(payload) < HEADER.size:
            counters.malformed += 1
            return 0
        session, sequence, count = HEADER.unpack_from(payload)
        if session != store.session or not self._adopted:
            if not self._may_adopt(session):
                counters.foreign_session += 1
                return 0
            self._adopt(session)
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

    def _may_adopt(self, session: bytes) -> bool:
        if self._configured:
            return session == self._configured
        if not self._adopted:
            return True
        return bool(self.end) and session != self._before

    def _adopt(self, session: bytes) -> None:
        if session != self.store.session:
            self._before = self.store.session
            self.store.reset(session)
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
