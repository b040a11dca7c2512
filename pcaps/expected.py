"""What `feedhandler replay CAPTURE --json` must say, by the slowest and plainest reading of the rules.

Written from the specifications and the documentation of `replay`, with dictionaries and no regard for speed;
it shares no code with feedhandler. Input: the datagrams of a capture as (time in ns, line, UDP payload), in
the capture's order.
"""

import hashlib
import struct

ARBITRATION_NS = 1_000_000
ROUND_TRIP_NS = 100_000  # of the simulated re-request server
ATTEMPTS = 100  # for numbers that the server does not hold
MTU_PAYLOAD = 1472

# every type of ITCH 5.0: bytes of the message
LENGTHS = {"S": 12, "R": 39, "H": 25, "Y": 20, "L": 26, "V": 35, "W": 12, "K": 28, "J": 35, "h": 21, "A": 36}
LENGTHS |= {"F": 40, "E": 31, "C": 36, "X": 23, "D": 19, "U": 35, "P": 44, "Q": 40, "B": 19, "I": 50}
LENGTHS |= {"N": 20, "O": 48}
STOCK_AT = dict.fromkeys("RHYKJhNO", 11) | dict.fromkeys("AFP", 24) | {"L": 15, "Q": 19, "I": 28}

Datagram = tuple[int, int, bytes]


def parse(payload: bytes) -> tuple[bytes, int, int, list[bytes]] | None:
    """(session, sequence, count, messages), or None for a malformed packet."""
    if len(payload) < 20:
        return None
    session, sequence, count = struct.unpack(">10sQH", payload[:20])
    rest, messages = payload[20:], []
    for _ in range(0 if count == 0xFFFF else count):
        if len(rest) < 2:
            return None
        length = int.from_bytes(rest[:2], "big")
        if len(rest) < 2 + length:
            return None
        messages.append(rest[2 : 2 + length])
        rest = rest[2 + length :]
    return None if rest else (session, sequence, count, messages)


class Books:
    """Every order in one dictionary; a level is whatever adding up the orders gives."""

    def __init__(self) -> None:
        self.orders: dict[int, tuple[int, str, int, int]] = {}  # reference: locate, side, shares, price
        self.symbols: dict[int, str] = {}
        self.touched: set[int] = set()  # had an order since the last clear
        self.records = {"mbp-1": 0, "trades": 0, "status": 0, "imbalance": 0}
        self.malformed = self.unknown = self.unknown_orders = 0

    def best(self, locate: int) -> tuple[tuple[int, int, int], ...]:
        """(price, shares, orders) of the best bid and the best offer."""
        sides = []
        for side, pick in (("B", max), ("S", min)):
            rows = [
                (price, shares) for at, s, shares, price in self.orders.values() if at == locate and s == side
            ]
            price = pick((p for p, _ in rows), default=0)
            level = [shares for p, shares in rows if p == price]
            sides.append((price, sum(level), len(level)))
        return tuple(sides)

    def levels(self) -> list[str]:
        """The lines of `--dump-books`, without the header."""
        sums: dict[tuple[str, str, int], list[int]] = {}
        for locate, side, shares, price in self.orders.values():
            level = sums.setdefault((self.symbols[locate], side, -price if side == "B" else price), [0, 0])
            level[0] += shares
            level[1] += 1
        return [
            f"{symbol},{side},{abs(price) // 10_000}.{abs(price) % 10_000:04d},{shares},{orders}"
            for (symbol, side, price), (shares, orders) in sorted(sums.items())
        ]

    def clear(self) -> None:
        """Messages were lost, or a session begins: one record of action R for each symbol that had a book."""
        self.records["mbp-1"] += len(self.touched)
        self.orders.clear()
        self.touched.clear()

    def apply(self, message: bytes) -> None:
        """One message of the feed."""
        if not message:
            return
        kind = chr(message[0])
        if kind not in LENGTHS:
            self.unknown += 1
        elif LENGTHS[kind] != len(message):
            self.malformed += 1
        else:
            before = {locate: self.best(locate) for locate in self.symbols}
            traded = self._apply(kind, message)
            changed = any(self.best(locate) != best for locate, best in before.items())
            new = any(any(side[2] for side in self.best(at)) for at in self.symbols.keys() - before.keys())
            self.records["mbp-1"] += bool(changed or new or traded)
            self.records["trades"] += traded

    def _apply(self, kind: str, m: bytes) -> bool:
        """Returns whether the message is a trade."""
        locate = int.from_bytes(m[1:3], "big")
        stock_at = STOCK_AT.get(kind)
        if stock_at is not None:
            self.symbols.setdefault(locate, m[stock_at : stock_at + 8].decode().rstrip(" "))
        if kind in "HhY":
            self.records["status"] += 1
        elif kind == "I":
            self.records["imbalance"] += 1
        elif kind == "P":
            return True
        elif kind == "Q":
            return int.from_bytes(m[11:19], "big") > 0
        elif kind in "AF":
            reference, side, shares, _, price = struct.unpack(">QcI8sI", m[11:36])
            self._add(reference, locate, side.decode(), shares, price)
        elif kind in "ECXDU":
            return self._change(kind, m)
        return False

    def _add(self, reference: int, locate: int, side: str, shares: int, price: int) -> None:
        if reference in self.orders:
            self.unknown_orders += 1
        self.orders[reference] = (locate, side, shares, price)
        self.touched.add(locate)

    def _change(self, kind: str, m: bytes) -> bool:
        reference = int.from_bytes(m[11:19], "big")
        if reference not in self.orders:
            self.unknown_orders += 1
            return False
        locate, side, shares, price = self.orders.pop(reference)
        if kind == "U":
            new, new_shares, new_price = struct.unpack(">QII", m[19:35])
            self._add(new, locate, side, new_shares, new_price)
        elif kind != "D":
            taken = int.from_bytes(m[19:23], "big")
            self.unknown_orders += taken > shares
            if taken < shares:
                self.orders[reference] = (locate, side, shares - taken, price)
        return kind == "E" or (kind == "C" and m[31:32] == b"Y")


class Feed:
    """Puts the packets of all lines in order, asks the simulated server, and keeps count."""

    def __init__(self, datagrams: list[Datagram]) -> None:
        self.books = Books()
        self.counts = dict.fromkeys(
            (
                "gaps",
                "requests",
                "recovered_line",
                "recovered_rewind",
                "unrecovered",
                "messages",
                "malformed",
            ),
            0,
        )
        self.session = b""
        self.ended = False
        self.old_sessions: list[bytes] = []
        self.missing: dict[int, int] = {}  # number: when to ask for it
        self.held_by_server: dict[bytes, dict[int, bytes]] = {}
        for _, _, payload in datagrams:  # every message of the input, from whatever line
            if packet := parse(payload):
                store = self.held_by_server.setdefault(packet[0], {})
                store.update({packet[1] + i: m for i, m in enumerate(packet[3])})
        for time, _, payload in datagrams:
            self.wait_until(time)
            self.on_datagram(time, payload)
        self.end(datagrams[-1][0])

    def start(self, session: bytes) -> None:
        """Expect number 1 of `session`; another one before it is over, and its books are void."""
        if self.session:
            self.books.clear()
            self.old_sessions.append(self.session)
        self.session, self.ended = session, False
        self.next = self.highest = 1
        self.waiting: dict[int, bytes] = {}  # behind a hole
        self.missing.clear()
        self.lost: set[int] = set()
        self.end_at = 0

    def on_datagram(self, now: int, payload: bytes) -> None:
        """One packet of a line."""
        packet = parse(payload)
        if packet is None:
            self.counts["malformed"] += 1
            return
        session, sequence, count, messages = packet
        if session != self.session:
            if self.session and (not self.ended or session in self.old_sessions):
                return
            self.start(session)
        if sequence > self.highest:
            self.counts["gaps"] += 1
            self.missing.update(dict.fromkeys(range(self.highest, sequence), now + ARBITRATION_NS))
            self.highest = sequence
        self.bring(sequence, messages, "recovered_line")
        if count == 0xFFFF:
            self.end_at = sequence
        self.ended = self.end_at == self.next

    def bring(self, sequence: int, messages: list[bytes], by: str) -> None:
        """Messages of a line or the server: those that are new wait for their turn."""
        for number, message in enumerate(messages, sequence):
            if number in self.missing:
                del self.missing[number]
                self.counts[by] += 1
                self.waiting[number] = message
            elif number in self.lost:
                raise NotImplementedError(f"{number} came after it was given up: this model cannot tell")
            elif number >= self.highest:
                self.waiting[number] = message
                self.highest = number + 1
        self.deliver()

    def deliver(self) -> None:
        """All that is next in turn, and the places of what is lost."""
        while self.next in self.waiting or self.next in self.lost:
            if self.next in self.lost:
                while self.next in self.lost:
                    self.next += 1
                self.books.clear()
                continue
            self.counts["messages"] += 1
            self.books.apply(self.waiting.pop(self.next))
            self.next += 1
        self.ended = bool(self.end_at) and self.end_at == self.next

    def wait_until(self, now: int) -> None:
        """Ask for what is due before `now`. A number nobody has is asked for until the server is given up."""
        while self.missing and (due := min(self.missing.values())) <= now:
            first = min(n for n, at in self.missing.items() if at == due)
            last = first
            while last + 1 in self.missing and self.missing[last + 1] == due:
                last += 1
            reply, size = [], 20
            store = self.held_by_server[self.session]
            for number in range(first, last + 1):
                if number not in store or size + 2 + len(store[number]) > MTU_PAYLOAD:
                    break
                size += 2 + len(store[number])
                reply.append(store[number])
            if reply:
                self.counts["requests"] += 1
                self.bring(first, reply, "recovered_rewind")  # a line is not expected to come between
                for number in range(first, last + 1):
                    if number in self.missing:
                        self.missing[number] = due + ROUND_TRIP_NS
            else:
                self.counts["requests"] += ATTEMPTS
                for number in range(first, last + 1):
                    del self.missing[number]
                    self.lost.add(number)
                    self.counts["unrecovered"] += 1
                self.deliver()

    def end(self, now: int) -> None:
        """The simulated exchange ends the session on every line."""
        self.on_datagram(now, struct.pack(">10sQH", self.session, self.highest, 0xFFFF))
        self.wait_until(1 << 63)


def replay(datagrams: list[Datagram]) -> dict[str, object]:
    """The JSON object, without `elapsed_s` and `messages_per_s`."""
    feed = Feed(datagrams)
    counts, books = feed.counts, feed.books
    dump = "".join(line + "\n" for line in books.levels())
    return {
        "packets": len(datagrams),
        "messages": counts["messages"],
        "dropped": 0,
        "duplicated": 0,
        "reordered": 0,
        "corrupted": 0,
        "gaps": counts["gaps"],
        "gap_messages": counts["recovered_line"] + counts["recovered_rewind"] + counts["unrecovered"],
        "requests": counts["requests"],
        "recovered_line": counts["recovered_line"],
        "recovered_rewind": counts["recovered_rewind"],
        "recovered_snapshot": 0,
        "unrecovered": counts["unrecovered"],
        "malformed": counts["malformed"],
        "malformed_messages": books.malformed,
        "unknown_messages": books.unknown,
        "unknown_orders": books.unknown_orders,
        "records": books.records,
        "orders": len(books.orders),
        "state": "ENDED" if feed.ended else "?",
        "books_sha256": hashlib.sha256(dump.encode()).hexdigest(),
    }
