"""A fault scenario: which fault hits what, when, and who could help. Data only; `world.py` plays it."""

from __future__ import annotations

from dataclasses import dataclass

US = 1_000
MS = 1_000_000

# ---- the feed: 60 packets of two messages on line A, and on line B a little later

PACKETS = 60
PER_PACKET = 2
LINE_B_LAG_NS = 20 * US
QUIET_NS = 10 * MS  # between packets, but for packets 11 to 40
BURST_NS = 10 * US
BURST = range(11, 41)
HEARTBEAT_NS = 50 * MS  # after the last packet
END_REPEAT_NS = 50 * MS
HORIZON_NS = 700 * MS

# ---- the handler's settings

ARBITRATION_NS = 1 * MS
TIMEOUT_NS = 5 * MS
RETRIES = 1
LINE_DOWN_NS = 60 * MS

# ---- what surrounds it

ROUND_TRIP_NS = 200 * US  # of a re-request
SLOW_NS = 8 * MS  # of one to a slow server: longer than TIMEOUT_NS
LOGIN_NS = 500 * US  # until a snapshot server has answered the login
IMAGE_NS = 1 * MS  # until its image is in

CAUSES = {
    "loss": "one packet is lost",
    "burst loss": "five packets in a row are lost",
    "reorder": "one packet comes after the two that follow it",
    "duplicate": "one packet comes three times",
    "corruption": "one packet arrives with a byte of its framing changed",
    "line dead": "nothing arrives for 100 ms",
    "wrong session": "five packets carry the name of another session",
}
WHENS = {
    "quiet": "packet 45, 10 ms from its neighbours",
    "burst": "packet 20, 10 µs from its neighbours",
    "recovery": "packet 25 of the burst, with packet 15 lost on both lines just before",
    "start": 'packet 1, with `start = "beginning"`',
    "end": "the last packet, followed by the end of the session",
}
LINES = ("A", "B", "both")
SERVERS = {
    "none": "no re-request server is configured",
    "good": "answer within 0.2 ms",
    "silent": "never answer",
    "slow": "answer after 8 ms, longer than `timeout_ms`",
    "lossy": "every other request is lost, the first one too",
    "wrong session": "answer with another session's name",
    "wrong numbers": "answer with the messages asked for, numbered 1,000 too high",
    "wrong bytes": "answer with the right numbers, and noise in place of the messages",
    "truncated": "answer with datagrams cut short",
}
BAD_SERVERS = ("silent", "wrong session", "wrong numbers", "wrong bytes", "truncated")
SERVER_LEVELS = (*SERVERS, *(f"{bad}, then good" for bad in BAD_SERVERS))
SNAPSHOTS = {
    "none": "no snapshot server is configured",
    "good": "sends the books as of the last message sent",
    "cut": "closes the connection in the middle",
    "stale": "sends the books as of message 10, or of none",
    "refused": "refuses the login",
}
# Picked by hand, beside those that are combined with everything.
MORE_SNAPSHOTS = {
    "wrong session": "accepts the login to another session",
    "cut, then good": "closes the first connection in the middle",
}
MORE_CAUSES = {
    "late start": 'the handler is started at that packet, with `start = "live"`',
    "late beginning": 'the handler is started at that packet, with `start = "beginning"`',
    "rollover": "another session begins 100 ms after the end of the first, with 20 packets",
    "loss, rollover": "the last packet before that is lost",
    "end not heard": "all that says the first session is over is lost, and another one begins",
}


@dataclass(frozen=True)
class Fault:
    """What hits the packets from one on, on line "A", "B" or "both"."""

    cause: str
    packet: int
    line: str


@dataclass(frozen=True)
class Scenario:
    """One combination; the words are those of the tables above."""

    cause: str
    when: str
    line: str
    servers: str
    snapshot: str
    horizon_ns: int = HORIZON_NS

    def __str__(self) -> str:
        return " / ".join((self.cause, self.when, self.line, self.servers, self.snapshot))

    @property
    def server_kinds(self) -> tuple[str, ...]:
        """The two servers, first and second; none."""
        if self.servers == "none":
            return ()
        first, _, second = self.servers.partition(", then ")
        return (first, second or first)

    @property
    def packet(self) -> int:
        """The packet that is hit first."""
        if self.when == "end":
            return PACKETS - 4 if self.cause in ("burst loss", "wrong session") else PACKETS
        return {"quiet": 45, "burst": 20, "recovery": 25, "start": 1}[self.when]

    @property
    def faults(self) -> tuple[Fault, ...]:
        """What happens to the lines, in order."""
        before = (Fault("loss", 15, "both"),) if self.when == "recovery" else ()
        return (*before, Fault(self.cause, self.packet, self.line))

    @property
    def over(self) -> bool:
        """Whether the session ends."""
        return self.when == "end" or self.rolls

    @property
    def rolls(self) -> bool:
        """Whether another session follows: then none is configured."""
        return self.cause in ("rollover", "loss, rollover", "end not heard")

    @property
    def late(self) -> bool:
        """Whether the handler is started at the packet that is hit."""
        return self.cause.startswith("late ")

    @property
    def starts_before(self) -> bool:
        """Whether the handler is LIVE before the fault."""
        return self.when != "start" and not self.late

    @property
    def start(self) -> str:
        """Setting `channel.start`."""
        return "beginning" if self.when == "start" or self.cause == "late beginning" else "live"

    @property
    def zero_ns(self) -> int:
        """When the packet that is hit first would arrive on line A."""
        return sent_ns(self.packet)


def sent_ns(packet: int) -> int:
    """When the exchange sends a packet: on line A it arrives at once. 0 is the first one's time."""
    if packet < BURST.start:
        return (packet - 1) * QUIET_NS
    burst_ns = (BURST.start - 1) * QUIET_NS
    if packet in BURST:
        return burst_ns + (packet - BURST.start) * BURST_NS
    return burst_ns + (packet - BURST.stop + 1) * QUIET_NS
