"""
The compiled core of feedhandler; private, use the public names of the package.
"""

from collections.abc import Sequence
from typing import Annotated

import numpy
import numpy.typing
from numpy.typing import NDArray


def encode_mold_header(session: bytes, sequence: int, count: int) -> bytes:
    """
    20 bytes: a request (count wanted), a heartbeat (count 0) or an end of session (count 0xFFFF).
    """

def encode_mold_packet(session: bytes, sequence: int, messages: Sequence) -> bytes:
    """A data packet of these messages."""

def parse_mold_packet(packet: bytes) -> object:
    """
    (kind, session, sequence, messages) with kind data, heartbeat or end_of_session; None when malformed.
    """

def parse_frame(link_type: int, frame: bytes) -> tuple:
    """
    (refusal, payload, source, source_port, destination, destination_port) of a captured frame; refusal is none when it holds a whole UDP datagram over IPv4, else the reason. Addresses are integers in host order.
    """

class Arbiter:
    """
    The sequencing stage alone; each call returns its trace as a list of tuples.
    """

    def __init__(self, *, lines: int = 1, servers: int = 0, session: str = '', start: str = 'live', first_sequence: int = 0, line_down_ns: int = 3000000000, arbitration_ns: int = 1000000, timeout_ns: int = 50000000, retries: int = 4, max_outstanding: int = 4, requests_per_s: int = 1000, hold_messages: int = 1000000, hold_bytes: int = 0, max_gap_messages: int = 10000000, with_timestamps: bool = False, snapshot: bool = False, first_to_apply_offset: int = 0, restart: bool = False, with_recovery: bool = False, slice_messages: int = 2048, splice_slices: int = 1) -> None: ...

    def look_ahead(self, payloads: Sequence[bytes]) -> tuple:
        """
        Of packets to come: how many of them are announced together, and the messages announced.
        """

    def on_packet(self, line: int, payload: bytes, now_ns: int, ts_recv_ns: int = 0) -> list: ...

    def on_reply(self, server: int, payload: bytes, now_ns: int, ts_recv_ns: int = 0) -> list: ...

    def on_refused(self, server: int, now_ns: int) -> list: ...

    def on_timer(self, now_ns: int) -> list: ...

    def on_snapshot(self, number: int, now_ns: int) -> list: ...

    def on_image(self, first_to_apply: int, now_ns: int) -> list: ...

    def on_snapshot_failed(self, now_ns: int) -> list: ...

    def let_session_go(self) -> None: ...

    def counters(self) -> dict: ...

    def history(self) -> list: ...

    @property
    def next_deadline(self) -> int: ...

    @property
    def state(self) -> str: ...

    def take_event_states(self) -> list:
        """The state that each event told, since the last call."""

    @property
    def session(self) -> bytes: ...

    @property
    def held(self) -> int: ...

    @property
    def next_sequence(self) -> int: ...

class Escalation:
    """What is decided about snapshots, alone."""

    def __init__(self) -> None: ...

    def hopeless(self, now_ns: int, missing: int, recovered: int, end: int, waiting: int, capacity: int) -> bool:
        """Can re-requests never catch up, at the pace of the last samples?"""

class BookNormalizer:
    """Books and DBN records of messages handed in, for tests and inspection."""

    def __init__(self, midnight_ns: int = 0, symbols: Sequence[str] = [], schema_mask: int = 127, state: int = 1, orders: int = 1048576, index_pages: int = 1024, deep_nodes: int = 262144, trading_events: bool = False) -> None: ...

    def apply(self, first_sequence: int, messages: Sequence[bytes], ts_recv_ns: int = 0, doubtful: bool = False) -> None:
        """
        Apply messages with consecutive numbers, as one packet. `doubtful`: its time is not trusted.
        """

    def announce(self, messages: Sequence[bytes]) -> None:
        """
        What will be applied next, if all goes well; changes nothing but the time it takes.
        """

    def set_state(self, arg: int, /) -> None:
        """Set the feed's state (number of FeedState)."""

    def clear(self, sequence: int, ts_ns: int) -> None:
        """Empty all books: messages were lost for good."""

    def take_records(self) -> dict:
        """Records since the last call: schema to bytes."""

    def counters(self) -> dict:
        """Counter names to values."""

    def levels(self, instrument: int, bids: bool) -> list[tuple[int, int, int]]:
        """
        All levels of a side, best first: (price with 4 implied decimals, size, orders).
        """

    def queue(self, instrument: int, bids: bool, price: int) -> list[int]:
        """Order references at a price, first in the queue first."""

    def view(self, instrument: int) -> dict | None:
        """The book as a reader of the shared table sees it."""

    def instrument(self, symbol: str) -> int | None:
        """Instrument id of a symbol, or None."""

    def audit(self) -> str:
        """What is inconsistent in the books; empty when nothing is."""

    @property
    def sparse_references(self) -> int:
        """References held in the hash."""

    @property
    def index_pages(self) -> int:
        """Pages of the order index in use."""

itch_message_lengths: dict = ...

class SnapshotImage:
    """
    Books that follow a feed, and their image for a snapshot server (GLIMPSE 5.0).
    """

    def __init__(self) -> None: ...

    def apply(self, first_sequence: int, count: int, blocks: bytes) -> None:
        """
        Apply `count` message blocks as on the wire, numbered from `next_sequence`.
        """

    def image(self) -> bytes:
        """
        SoupBinTCP packets of sequenced data: R, S, H, Y, h, N, each displayed order as A or F, and G with next_sequence.
        """

    @property
    def next_sequence(self) -> int: ...

    @property
    def complete(self) -> bool: ...

    @property
    def orders(self) -> int: ...

class SnapshotDownload:
    """
    One snapshot on its way to the feed: bytes and time in, books or a reason why there are none out.
    """

    def __init__(self, username: str, password: str, session: str, midnight_ns: int, now_ns: int) -> None: ...

    def take_output(self) -> bytes:
        """What is to be sent to the server."""

    def on_bytes(self, data: bytes, now_ns: int) -> None:
        """What the server sent."""

    def on_timer(self, now_ns: int) -> None: ...

    @property
    def done(self) -> bool: ...

    @property
    def failure(self) -> str:
        """Why there are no books; empty: no failure yet."""

    @property
    def number(self) -> int:
        """What G told; when done."""

class Pipeline:
    """
    Sequencing, books and records in one; each call returns its trace as a list of tuples, without messages.
    """

    def __init__(self, watch: object, **settings: object) -> None:
        """
        watch(sequence, state) is called when a reader can see something new: the books as after message `sequence`, or another state. The rest is that of an Arbiter.
        """

    def on_packet(self, line: int, payload: bytes, now_ns: int) -> list: ...

    def on_reply(self, server: int, payload: bytes, now_ns: int) -> list: ...

    def on_timer(self, now_ns: int) -> list: ...

    def on_snapshot(self, download: object, now_ns: int) -> list:
        """A SnapshotDownload that is done."""

    def on_snapshot_failed(self, now_ns: int) -> list: ...

    def view(self, instrument: int) -> dict | None:
        """The book as a reader of the shared table sees it."""

    def take_records(self) -> dict:
        """Records since the last call: schema to bytes."""

    @property
    def next_deadline(self) -> int: ...

    @property
    def next_sequence(self) -> int: ...

    @property
    def session(self) -> bytes: ...

    @property
    def state(self) -> str: ...

class Histogram:
    """Counts of nanoseconds in buckets of at most 1/32 of their value."""

    def __init__(self) -> None: ...

    def add(self, ns: int) -> None: ...

    def quantile(self, share: float) -> int:
        """
        ns that this share (0 to 1) did not exceed: up to 1/32 too high; 0 when empty.
        """

    def at_most(self, ns: int) -> int:
        """How many certainly took no longer."""

    def merge(self, other: Histogram) -> None: ...

    def since(self, before: Histogram) -> Histogram:
        """What was added since; its worst by its bucket only."""

    @property
    def count(self) -> int: ...

    @property
    def sum_ns(self) -> int: ...

    @property
    def worst_ns(self) -> int: ...

    def buckets(self) -> list[tuple[int, int]]:
        """[(least ns of a bucket, count)] of those that are not empty."""

latency_hops: dict = ...

class LatencyMeter:
    """What follows a packet through the receive thread, for tests."""

    def __init__(self, sample_every: int, ns_per_tick: int = 1) -> None: ...

    def at(self, ticks: int, utc_ns: int = 0) -> None:
        """Set the clock."""

    def dequeued(self, datagrams: int) -> None: ...

    def next(self, ts_recv_ns: int = 0, kind: int = 2) -> None:
        """The turn of a datagram."""

    def follows(self, own: bool) -> bool:
        """Of a message in the datagram, or elsewhere."""

    def sequenced(self, last_sequence: int) -> None: ...

    def booked(self) -> None: ...

    def published(self, recorded: bool) -> None: ...

    def read(self) -> dict: ...

class ConsumerMeter:
    def __init__(self, meter: LatencyMeter) -> None: ...

    def on_record(self, sequence_low: int) -> None: ...

    def settle(self) -> None: ...

    @property
    def consume(self) -> Histogram: ...

    @property
    def whole(self) -> Histogram: ...

    @property
    def missed(self) -> int: ...

class TickClock:
    """The clock that the receive thread stamps with."""

    def __init__(self, monotonic: bool = False) -> None:
        """`monotonic`: as where there is no time stamp counter to trust."""

    def ticks(self) -> int: ...

    def ns(self, ticks: int) -> int: ...

    def recheck(self) -> None: ...

    @property
    def stamp_ns(self) -> int: ...

    @property
    def recalibrated(self) -> int: ...

class TickCalibration:
    """Length of a tick from (ticks, ns) readings."""

    def __init__(self, first: tuple[int, int], second: tuple[int, int]) -> None: ...

    def observe(self, ticks: int, ns: int) -> None: ...

    def ns(self, ticks: int) -> int: ...

    @property
    def restarts(self) -> int: ...

schema_names: tuple = ...

def counter_descriptions() -> dict:
    """{group: {counter: description}}: the one table of the code."""

class ChannelWriter:
    """
    Writes a channel's shared memory: what the daemon does, for tests and tools.
    """

    def __init__(self, directory: str, channel: str, dataset: str = 'XNAS.ITCH', epoch: int = 1, schema_mask: int = 127, depth: int = 10, publisher_id: int = 2, midnight_ns: int = 0, trading_day: int = 19700101, ring_bytes: int = 1048576, books: bool = False, lines: Sequence[str] = ['A', 'B'], servers: Sequence[str] = []) -> None: ...

    def own(self) -> None:
        """Take the owner's mutex on this thread and put the files in place."""

    def release(self) -> None:
        """Clean stop, on the owning thread: readers see DEAD."""

    def heartbeat(self) -> None: ...

    def set_state(self, state: int) -> None: ...

    def set_next_sequence(self, next_sequence: int) -> None: ...

    def write(self, schema: int, bodies: Annotated[NDArray[numpy.uint8], dict(shape=(None,), order='C', writable=False)], first_sequence: int = 1, records_per_commit: int = 1, records_per_message: int = 1) -> int:
        """
        Publish records of one schema from a flat uint8 array; the GIL is released.
        """

    def apply(self, first_sequence: int, messages: Sequence[bytes], ts_recv_ns: int = 0) -> None:
        """
        Put messages through a normalizer: books and records as the daemon makes them.
        """

    def clear(self, sequence: int, ts_ns: int = 0) -> None: ...

    def event(self, type: int, state: int = 0, previous: int = 0, first: int = 0, last: int = 0, line: int = 255, session: str = '', ts_ns: int = 0) -> None: ...

    def put_counters(self, lines: Sequence[dict], gaps: dict, recovery: dict, feed: dict, session: str = '', ts_ns: int = 0, escalation: dict = {}, servers: Sequence[dict] = []) -> None: ...

    def add_gap(self, gap: dict) -> int: ...

    def update_gap(self, index: int, gap: dict) -> None: ...

class ChannelReader:
    """State, counters and gap history of a channel; never its records."""

    def __init__(self, directory: str) -> None: ...

    @property
    def state(self) -> int:
        """0..4, or 255: no daemon"""

    @property
    def alive(self) -> bool: ...

    @property
    def next_sequence(self) -> int: ...

    @property
    def gap_count(self) -> int: ...

    @property
    def replaced(self) -> bool:
        """Has another daemon put new files in place?"""

    def info(self) -> dict: ...

    def counters(self) -> dict: ...

    def gaps(self) -> list: ...

    def latency(self) -> dict:
        """What the hops of sampled packets have taken since the start."""

    def consumers(self) -> int: ...

class Consumer:
    """Follows the ring of a channel; see feedhandler.Consumer."""

    def __init__(self, directory: str, schema_mask: int, symbols: Sequence[str], spin_ns: int = 50000, conflate: bool = False) -> None: ...

    def poll(self, timeout_s: float, max_bytes: int) -> tuple[numpy.typing.NDArray[numpy.uint8], list[tuple[int, int, int, int, int]]] | None: ...

    def poll_groups(self, timeout_s: float, max_bytes: int) -> list[tuple[int, int, int, int, int, bytes]]: ...

    @property
    def state(self) -> int: ...

    @property
    def lost(self) -> int: ...

    @property
    def conflated(self) -> int: ...

    @property
    def restarts(self) -> int: ...

    @property
    def epoch(self) -> int: ...

    @property
    def next_sequence(self) -> int: ...

    def symbol(self, instrument_id: int) -> str: ...

    def symbols(self) -> dict:
        """{instrument_id: symbol}"""

    def book(self, symbol: str) -> tuple[int, int, int, int, bool, bytes, bytes] | None: ...

    def book_of(self, instrument_id: int) -> tuple[int, int, int, int, bool, bytes, bytes] | None: ...

    def session(self) -> str: ...

    def info(self) -> dict: ...

    def measure_latency(self) -> None: ...

    def latency(self) -> tuple[Histogram, Histogram, int] | None:
        """
        (published until handed out, the whole way, samples missed); None: not measured.
        """

    def skip(self, timeout_s: float) -> None:
        """Read and drop what comes, spinning, for who only measures."""

class PairConsumer:
    """Follows channels of the same feed as one; see feedhandler.Consumer."""

    def __init__(self, directories: Sequence[str], schema_mask: int, symbols: Sequence[str], spin_ns: int = 50000, conflate: bool = False, takeover_ns: int = 7000000) -> None: ...

    def poll(self, timeout_s: float, max_bytes: int) -> tuple[numpy.typing.NDArray[numpy.uint8], list[tuple[int, int, int, int, int]]] | None: ...

    def poll_groups(self, timeout_s: float, max_bytes: int) -> list[tuple[int, int, int, int, int, bytes]]: ...

    @property
    def state(self) -> int: ...

    @property
    def lost(self) -> int: ...

    @property
    def conflated(self) -> int: ...

    @property
    def restarts(self) -> int: ...

    @property
    def epoch(self) -> int: ...

    @property
    def next_sequence(self) -> int: ...

    def symbol(self, instrument_id: int) -> str: ...

    def symbols(self) -> dict:
        """{instrument_id: symbol}"""

    def book(self, symbol: str) -> tuple[int, int, int, int, bool, bytes, bytes] | None: ...

    def book_of(self, instrument_id: int) -> tuple[int, int, int, int, bool, bytes, bytes] | None: ...

    def session(self) -> str: ...

    def info(self) -> dict: ...

    @property
    def delivered_from(self) -> list[int]: ...

class LineSettings:
    def __init__(self, name: str, group: str, port: int, interface: str, source: str = '') -> None: ...

class Source:
    """
    Joined lines in one of the receive modes; OSError-like RuntimeError when they cannot be had so.
    """

    def __init__(self, lines: Sequence[LineSettings], settings: dict = {}) -> None:
        """`settings`: as the table [receive], with what it lacks by default."""

    def poll(self, hold_ms: int = 0) -> list:
        """
        What has arrived: a list of (line, payload, ts_recv_ns, kind of time). `hold_ms`: so long the payloads stay where they are before they are copied, as if they were worked on there.
        """

    def stats(self, line: int) -> dict:
        """What the kernel granted and dropped."""

    def counters(self) -> dict:
        """The counters `receive` of `stat`."""

    def fds(self) -> list[int]:
        """Descriptors to wait on."""

class FrameLines:
    """The lines of one device, and which of them a frame is of."""

    def __init__(self, lines: Sequence[LineSettings]) -> None: ...

    def take(self, frame: bytes, intact: bool = False) -> object:
        """
        (line, payload), or None: then a counter says why. `intact`: the checksums were looked at.
        """

    @property
    def counters(self) -> dict: ...

class XdpFilter:
    """The filter of mode "xdp" for one device, loaded but not attached."""

    def __init__(self, lines: Sequence[LineSettings], largest_frame: int) -> None: ...

    def run(self, frame: bytes) -> int:
        """
        What the kernel says it would do with an Ethernet frame: 2 pass it on, 4 give it to a socket.
        """

def btf_function(btf: bytes, name: str) -> int:
    """
    Number of a function in the kernel's description of its types; 0: it is not there.
    """

def default_dpdk_plugin() -> str:
    """
    Where the build puts the plugin of receive.mode "dpdk", if it makes one.
    """

class Feed:
    """
    The receive thread of a channel and all that hangs on it; for feedhandler.daemon.
    """

    def __init__(self, *, lines: Sequence[LineSettings], servers: Sequence[tuple[str, int]], receive: dict, session: str, from_beginning: bool, line_down_ns: int, arbitration_ns: int, timeout_ns: int, retries: int, max_outstanding: int, requests_per_s: int, hold_messages: int, directory: str, channel: str, dataset: str, epoch: int, schema_mask: int, depth: int, publisher_id: int, trading_days: Sequence[tuple[int, int]], ring_bytes: int, symbols: Sequence[str], journal_ring_bytes: int = 0, snapshot: tuple[str, int, str, str] | None = None, first_to_apply_offset: int = 0, restart: bool = False, latency_sample_every: int = 0) -> None:
        """
        Join the lines and make the channel. Raises RuntimeError or RunError with the reason when it cannot.
        """

    def start(self) -> None:
        """Start the receive thread."""

    def stop(self, timeout_ms: int) -> bool:
        """End the receive thread; False when it does not within the time."""

    def set_clock(self, seen: dict, always_trusted: bool = False) -> None:
        """
        Tell what was seen of the host's clocks, by the names of the counters' group `clock`; before start(), and again and again. Until then no time is trusted. `always_trusted`: the clocks do not count when a time is judged.
        """

    @property
    def running(self) -> bool:
        """Is the receive thread in its loop?"""

    @property
    def progress(self) -> int:
        """Grows while the receive thread works."""

    @property
    def state(self) -> int: ...

    @property
    def memory_locked(self) -> bool:
        """Was mlockall granted?"""

    @property
    def prefaulted_bytes(self) -> int:
        """Memory of the books taken at the start; ask after start()."""

    def events(self) -> list:
        """Events since the last call, for the log; one thread only."""

    def take_snapshot_failure(self) -> str:
        """Why the last snapshot could not be loaded, once; empty: nothing new."""

    @property
    def restart_state(self) -> str:
        """
        waiting (for the first packet), wanted (books for its session), failed (the last choice did not help: make another), over.
        """

    @property
    def restart_session(self) -> bytes:
        """Ten bytes; of a restart that is wanted."""

    @property
    def restart_first(self) -> int:
        """Number at which that session was joined."""

    def restart_by(self, choice: str) -> None:
        """Take the books from a snapshot, or from nowhere."""

    def restart_by_journal(self, image: JournalImage) -> None:
        """Take these books; the image is empty afterwards."""

    def drop_image(self) -> None:
        """Free the image, when the restart is over."""

    def take_receive_log(self) -> str:
        """
        What the libraries of the receive mode have said since the last call: lines.
        """

    @property
    def events_lost(self) -> int: ...

    def granted(self, line: int) -> dict:
        """What the kernel granted to a line; ask before start()."""

def limit_capabilities(kept: int) -> None:
    """
    Take from all threads of this process, for good, the capabilities that are not bits of `kept`. Raises RuntimeError when that cannot be had.
    """

def onload_present() -> bool:
    """
    Is Onload's library in this process? That does not say that it accelerates any socket.
    """

def why_not_accelerated() -> str:
    """Why a line in receive mode onload that is not accelerated is not."""

class FeedClock:
    """UTC ns from given readings of the two clocks; never runs backwards."""

    def __init__(self, monotonic_ns: int, realtime_ns: int) -> None: ...

    def anchor(self, monotonic_ns: int, realtime_ns: int) -> None: ...

    def now_ns(self) -> int: ...

def read_control(control: bytes) -> tuple[int, int, int | None]:
    """
    (number of the kind, ts_recv_ns, drops or None) out of a datagram's control messages.
    """

class DeviceClock:
    def __init__(self) -> None: ...

    def compare(self, ticks: int, monotonic_ns: int, realtime_ns: int) -> None: ...

    @property
    def known(self) -> bool: ...

    def utc_ns(self, ticks: int) -> int: ...

def receive_time(kind: int, ts_recv_ns: int, now_ns: int, *, system_trusted: bool, hardware_trusted: bool, hardware_lead_ns: int = 0, feed_error_ns: int = 0) -> tuple[int, bool]:
    """
    (ts_recv_ns in UTC, whether it is not to be trusted) of a time of that kind.
    """

MAX_LINES: int = 8

def recognise_file(data: object) -> str:
    """
    What a file is by its content: "capture", "binary" (BinaryFILE), or "".
    """

def capture_groups(data: object) -> dict:
    """
    Destinations of UDP in a capture: `groups` [(address, port, packets, MoldUDP64 packets among the first, multicast)], `unknown_link` frames of link types that are not read, `hours` since 1970 UTC that have frames.
    """

class ReplayInput:
    """A file as input; scan() first."""

    def scan(self, midnights: Sequence[int]) -> None:
        """
        First reading: sessions, numbers, how the file ends. `midnights` in UTC ns, in order: of a BinaryFILE's day, or of all days of a capture.
        """

    def input_end(self) -> dict:
        """How the file ended."""

    @property
    def sessions(self) -> list:
        """(session, first number, end) of every session."""

    @property
    def packets(self) -> int: ...

    @property
    def first_ns(self) -> int: ...

class Replay(ReplayInput):
    """One replay: scan(), start(), then step() until it is False."""

    def __init__(self, data: object, *, binary: bool, groups: Sequence[tuple[str, int]], lines: int, drop: float, duplicate: float, reorder: float, corrupt: float, drop_burst: float, rewind: bool, snapshot: bool = False, drop_rewind: float, attempts: int, seed: int, schema_mask: int, keep_records: bool, symbols: Sequence[str], begin_ns: int = -9223372036854775808, end_ns: int = 9223372036854775807, publisher_id: int = 2, exchange: str = 'XNAS') -> None: ...

    def start(self, midnights: Sequence[int]) -> None:
        """
        Sets the pipeline up; `midnights` in UTC ns, in order: of the trading day, or of all days that sessions may begin on.
        """

    def step(self, packets: int, until_ns: int, bytes: int) -> bool:
        """
        Plays at most `packets`, none later than `until_ns`, until `bytes` of records wait. False when all is over.
        """

    def take(self, schema: int) -> bytes:
        """The records of a schema since the last take."""

    def counts(self) -> dict:
        """
        What `replay --json` tells, but for times and hashes; `records` by schema bit.
        """

    def books(self) -> bytes:
        """Every level of every book as CSV lines."""

    def symbols(self) -> list:
        """(instrument id, symbol) of every instrument named, by symbol."""

    @property
    def clock_ns(self) -> int: ...

    @property
    def packets_played(self) -> int: ...

    @property
    def next_packet_ns(self) -> int: ...

class ReplayPackets(ReplayInput):
    """The packets as lossy lines carry them: scan(), start(), take()."""

    def __init__(self, data: object, *, binary: bool, groups: Sequence[tuple[str, int]], lines: int, drop: float, duplicate: float, reorder: float, corrupt: float, drop_burst: float, seed: int) -> None: ...

    def start(self) -> None: ...

    def take(self, packets: int, until_ns: int) -> list:
        """
        [(line, payload)] of at most `packets` of the input, none later than `until_ns` or of a new session.
        """

    def open_session(self) -> int:
        """Lets the next session's packets be taken; its index."""

    def end_session(self) -> list:
        """[(line, payload)]: what was delayed, and the end on every line."""

    def runs(self, session: int) -> list:
        """[(first number, count, blocks)] of all that a session holds."""

    def counts(self) -> dict:
        """Faults so far; `delivered` by line."""

    @property
    def at_new_session(self) -> bool: ...

    @property
    def packets_played(self) -> int: ...

    @property
    def next_packet_ns(self) -> int: ...

class JournalSurvey:
    """What sessions a stretch of a journal holds, from headers alone."""

    def __init__(self) -> None: ...

    def begin_segment(self) -> None:
        """The next bytes begin a segment."""

    def read(self, data: bytes) -> None:
        """
        The next bytes. Raises ValueError when they are no segment of a journal.
        """

    def sessions(self) -> list:
        """
        A dict each: session, packets, messages (with copies), bytes, first, next, first_ns, last_ns, ended.
        """

class JournalImage:
    """Books as the packets of a journal tell them."""

    def __init__(self, session: bytes, midnight_ns: int) -> None: ...

    def begin_segment(self) -> None:
        """The next bytes begin a segment."""

    def read(self, data: bytes) -> None:
        """
        The next bytes. Raises ValueError when they are no segment of a journal.
        """

    @property
    def next_sequence(self) -> int:
        """The first number that the books do not contain."""

    @property
    def orders(self) -> int: ...

    @property
    def last_message(self) -> bytes:
        """The message with the number before next_sequence."""

    @property
    def failure(self) -> str:
        """Why the books must not be used; empty: they may."""

def journal_status(directory: str) -> dict | None:
    """
    State and counters of the journal of the channel in this folder; None when it has none.
    """

def segment_extent(data: object) -> tuple[int, int, int, int]:
    """
    (bytes, packets, first ns, last ns) of the whole records of a journal's segment; bytes 0: it is none.
    """

class Journal:
    """
    Packets of a channel from shared memory into segments; for feedhandler.journal.
    """

    def __init__(self, directory: str) -> None: ...

    def pump(self) -> int:
        """
        Move packets until none is left, or one waits for another segment; how many were moved.
        """

    def open(self, path: str, bytes: int, longest_ns: int) -> None:
        """Open a segment. Raises OSError."""

    def close(self) -> None:
        """Cut the segment to its size and leave it. Raises OSError."""

    def sync(self) -> None:
        """Bring to disk what is written. Raises OSError."""

    def set_state(self, state: str) -> None:
        """Tell readers of the channel: writing, stopped, failed."""

    def counters(self) -> dict: ...

    @property
    def waiting(self) -> bool:
        """Does the next packet need another segment?"""

    @property
    def waiting_ns(self) -> int:
        """When that packet was received, UTC ns."""

    @property
    def available(self) -> bool:
        """Is there anything in the ring?"""

    @property
    def segment_first_ns(self) -> int:
        """UTC ns of the open segment's first packet."""

    @property
    def segment_packets(self) -> int: ...

class ModifyDialect:
    """Turns mbo records of one day into the dialect `modify`."""

    def __init__(self) -> None: ...

    def apply(self, records: bytes) -> bytes:
        """Whole mbo records, in order, changed."""

class PacketRing:
    """The writing end of a packet ring; for tests and benchmarks."""

    def __init__(self, directory: str, bytes: int, epoch: int, lines: Sequence[LineSettings], servers: Sequence[tuple[str, int]]) -> None: ...

    def put(self, line: int, payload: bytes, ts_recv_ns: int, times: int = 1) -> None: ...

    @property
    def packets(self) -> int: ...

def poll_lossy(packets: Sequence[tuple[int, bytes]], lines: int, seed: int, room: int, *, drop: float = 0.0, drop_burst: float = 1.0, duplicate: float = 0.0, reorder: float = 0.0, corrupt: float = 0.0) -> list:
    """
    What a lossy source gives for these (line, packet), polled `room` at a time; for tests.
    """

class LossyLine:
    """Faults on one line: loss in bursts, duplicates, reordering, damage."""

    def __init__(self, *, drop: float = 0.0, drop_burst: float = 1.0, duplicate: float = 0.0, reorder: float = 0.0, corrupt: float = 0.0, seed: int = 0, line: int = 0) -> None:
        """Probabilities 0..1; drop_burst: mean length of a loss burst, packets."""

    def push(self, packet: bytes, ts_recv_ns: int = 0) -> list:
        """The packets that come out for this one."""

    def flush(self) -> list:
        """The packets still delayed."""

    @property
    def losses(self) -> list:
        """Ranges [first, end) of message numbers that the line did not bring."""

    @property
    def counts(self) -> dict: ...

class Exchange:
    """
    A trading day of the simulated exchange, message by message (ITCH 5.0).
    """

    def __init__(self, messages: int, symbols: int, seed: int, max_orders: int = 4194304) -> None:
        """
        messages: of the whole day, exactly (0: trading never closes). symbols: 1..65534. max_orders: resting at once, a bound of memory.
        """

    def next(self, bytes: int = 1048576) -> bytes:
        """
        Some more BinaryFILE records (u16 big-endian length + message), about `bytes` of them; empty: the day is over.
        """

    @staticmethod
    def least_messages(symbols: int) -> int:
        """The fewest messages that such a day can have."""

    @property
    def over(self) -> bool: ...

    @property
    def counts(self) -> dict:
        """Messages so far, by type."""

    @property
    def messages(self) -> int: ...

    @property
    def live_orders(self) -> int: ...

    @property
    def added_orders(self) -> int: ...

    @property
    def opened_levels(self) -> int:
        """Of the orders added, those that opened a price level."""

    @property
    def adds_near(self) -> int:
        """Of the orders added, those within five levels of the best."""

class PcapEncoder:
    """A simulated day as a nanosecond pcap file of MoldUDP64 packets."""

    def __init__(self, exchange: Exchange, session: str, groups: Sequence[tuple[int, int]], midnight_ns: int, skew_ns: int = 3000) -> None:
        """
        groups: (IPv4 address as an integer, port) of each line. midnight_ns: UTC of the exchange's midnight. skew_ns: how much later each further line brings a packet.
        """

    def next(self, bytes: int = 1048576) -> bytes:
        """Some more of the file; empty: complete."""

    @property
    def packets(self) -> int:
        """Packets so far, of one line."""

class LineTarget:
    """A multicast group to send to, and the faults of the line."""

    def __init__(self, name: str, group: str, port: int, interface: str = '127.0.0.1', ttl: int = 1, *, drop: float = 0.0, drop_burst: float = 1.0, duplicate: float = 0.0, reorder: float = 0.0, corrupt: float = 0.0) -> None:
        """
        interface: an address or a device name. Faults: probabilities 0..1 per packet; drop_burst: packets.
        """

class Broadcast:
    """
    Sends a simulated day as MoldUDP64 on multicast lines, paced by a clock.
    """

    def __init__(self, exchange: Exchange, lines: Sequence[LineTarget], *, session: str, messages_per_s: int, burst: int = 1, lead_ns: int = 0, linger_ns: int = 3000000000, seed: int = 1, store: Annotated[NDArray[numpy.uint8], dict(shape=(None,), order='C', device='cpu')] | None = None, same_faults: bool = False) -> None:
        """
        messages_per_s: mean rate. burst: messages that are due at once. lead_ns: heartbeats before the first message. linger_ns: how long the end of session is repeated. store: writable memory of a message store that gets every packet. same_faults: the faults of all lines fall on the same packets. Raises RuntimeError when a line cannot be opened.
        """

    def poll(self, now_ns: int) -> int:
        """
        Send what is due by then, at most one batch; returns when to come again.
        """

    def cut(self, now_ns: int) -> None:
        """End the session with what has been sent; for the thread that polls."""

    def run(self) -> None:
        """Send until all is over, without the interpreter lock."""

    def stop(self) -> None:
        """End the session soon; for other threads."""

    @property
    def over(self) -> bool: ...

    @property
    def messages(self) -> int: ...

    @property
    def packets(self) -> int:
        """Data packets so far, of one line."""

    @property
    def sending_ns(self) -> int:
        """From the first packet to the last."""

    @property
    def counts(self) -> dict:
        """What each line did, by name; exact once it is over."""
