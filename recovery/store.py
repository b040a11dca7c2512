"""Messages of one session by sequence number, in a mapped file that other processes may read while it grows.

File format (little-endian, version 1), a header page and three arrays::

    0        header: 512 u64 words, see the word numbers below
    4096     index:  max_messages u64, slot = sequence mod max_messages: lap << 48 | position
             (lap = sequence div max_messages)
    +8n      joined: max_messages u8, 1 = this message lies directly behind its predecessor in the data
    +9n      data:   max_bytes, blocks as on the wire (u16 big-endian length, message);
             a position lies at position mod max_bytes

Positions count every byte ever written, so that an index entry is old as soon as the data ring has passed it:
nothing is ever erased. A packet's blocks are stored verbatim and never across the ring's end. The file is
sparse.

One writer. It announces in `intent` what it is about to overwrite, writes data, then index, and publishes
`written` and `next` last; a reader takes entries below `written` and looks at `intent` again after copying.
That needs stores seen in program order (x86; the words are aligned and written whole).
"""

import fcntl
import mmap
import os
import struct
from array import array
from bisect import bisect_right
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt

from feedhandler.errors import RunError, UsageError

MAGIC = int.from_bytes(b"FHSTORE1", "little")
HEADER_BYTES = 4096
# word numbers in the header
_MAGIC, _MESSAGES, _BYTES, _SESSION_LOW, _SESSION_HIGH, _SESSION_BEGIN = 0, 1, 2, 3, 4, 5
_FIRST, _HELD, _CLEAN, _BOOT_LOW, _BOOT_HIGH, _EPOCH = 6, 7, 8, 9, 10, 11
_INTENT, _WRITTEN, _NEXT = 16, 24, 32  # each on a cache line of its own

MIN_MESSAGES = 1 << 16
MIN_BYTES = 1 << 20
# the busiest NASDAQ days have 300 million messages in 10 GB; untouched pages cost nothing
WHOLE_SESSION_MESSAGES = 1 << 29
WHOLE_SESSION_BYTES = 1 << 35
_POSITION = (1 << 48) - 1
_LAPS = 1 << 16
_JOINED = b"\1" * 65536


class MessageStore:
    """Message blocks by sequence number; see the module for the file.

    A sequence is stored once: the first copy wins. `max_messages` and `max_bytes` bound it; the oldest go
    first. Sequences from 1 to 65536 * max_messages - 1 can be stored.
    """

    def __init__(self, descriptor: int, *, writable: bool, path: str) -> None:
        self.path = path
        self.writable = writable
        protection = mmap.PROT_READ | (mmap.PROT_WRITE if writable else 0)
        try:
            self._map = mmap.mmap(descriptor, 0, mmap.MAP_SHARED, protection)
        finally:
            os.close(descriptor)
        view = memoryview(self._map)
        self._header = view[:HEADER_BYTES].cast("Q")
        self.max_messages: int = self._header[_MESSAGES]
        self.max_bytes: int = self._header[_BYTES]
        self._mask = self.max_messages - 1
        self._shift = self._mask.bit_length()
        joined = HEADER_BYTES + 8 * self.max_messages
        self._joined_at = joined
        self._data_at = joined + self.max_messages
        self._index = view[HEADER_BYTES:joined].cast("Q")
        self._data = view[self._data_at : self._data_at + self.max_bytes]
        self._view = view
        self._epoch = -1
        self._session = b""
        self._tail_sequence = 0  # the sequence that would lie directly behind the last one written
        self._complete = 0  # everything in [first_sequence, _complete) is or was held

    # -- making and opening

    @classmethod
    def create(
        cls,
        path: str | os.PathLike[str] | None = None,
        *,
        session: bytes = b"",
        max_messages: int = WHOLE_SESSION_MESSAGES,
        max_bytes: int = WHOLE_SESSION_BYTES,
    ) -> Self:
        """Make an empty store in the file `path` (replacing what is there), or in memory.

        `max_messages` is rounded up to a power of two. `session` is 10 bytes, or empty until `reset` names
        it.
        """
        max_messages = 1 << (max(max_messages, MIN_MESSAGES) - 1).bit_length()
        max_bytes = -(-max(max_bytes, MIN_BYTES) // 4096) * 4096
        size = HEADER_BYTES + 9 * max_messages + max_bytes
        name = "memory" if path is None else os.fspath(path)
        try:
            if path is None:
                descriptor = os.memfd_create("feedhandler-store")
            else:
                _remove(path)
                descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640)
                _lock(descriptor, name)
            os.ftruncate(descriptor, size)
            words = [0] * 512
            words[_MESSAGES], words[_BYTES] = max_messages, max_bytes
            words[_INTENT] = words[_WRITTEN] = 64  # so that no index entry in use is 0
            words[_SESSION_BEGIN] = 64
            os.pwrite(descriptor, struct.pack("<512Q", *words), 0)
            os.pwrite(descriptor, struct.pack("<Q", MAGIC), 0)
        except OSError as error:
            raise RunError(f'store: "{name}": {error.strerror}') from error
        store = cls(descriptor, writable=True, path=name)
        store._mark_open()
        store.reset(session)
        return store

    @classmethod
    def open(cls, path: str | os.PathLike[str], *, writable: bool = False) -> Self:
        """Map an existing store: for reading beside its writer, or for writing on.

        A store left open by a machine that went down may have lost any of its pages: opened for writing it
        starts empty.
        """
        try:
            descriptor = os.open(path, (os.O_RDWR if writable else os.O_RDONLY) | os.O_CLOEXEC)
            head = os.pread(descriptor, HEADER_BYTES, 0)
        except OSError as error:
            raise UsageError(f'store: "{os.fspath(path)}": {error.strerror}') from error
        words = struct.unpack("<3Q", head[:24]) if len(head) == HEADER_BYTES else (0, 0, 0)
        size = HEADER_BYTES + 9 * words[1] + words[2]
        if words[0] != MAGIC or size != os.fstat(descriptor).st_size:
            os.close(descriptor)
            raise UsageError(f'store: "{os.fspath(path)}" is not a message store of version 1')
        if writable:
            _lock(descriptor, os.fspath(path))
        store = cls(descriptor, writable=writable, path=os.fspath(path))
        if writable:
            header = store._header
            boot = _boot_id()
            if not header[_CLEAN] and (boot == (0, 0) or (header[_BOOT_LOW], header[_BOOT_HIGH]) != boot):
                sizes, session = (store.max_messages, store.max_bytes), store.session
                store.close()
                return cls.create(path, session=session, max_messages=sizes[0], max_bytes=sizes[1])
            store._mark_open()
            header[_WRITTEN] = header[_INTENT]  # a writer that was killed had written what it had indexed
            store._complete = store._find_complete()
        return store

    def _mark_open(self) -> None:
        self._header[_BOOT_LOW], self._header[_BOOT_HIGH] = _boot_id()
        self._header[_CLEAN] = 0

    def close(self) -> None:
        """Unmap; a writer also marks the file complete."""
        if self.writable and not self._map.closed:
            self._header[_CLEAN] = 1
        for view in (self._header, self._index, self._data, self._view):
            view.release()
        self._map.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    @property
    def memory(self) -> memoryview:
        """The whole mapped file, for a writer in the compiled core. Release it before `close`."""
        return memoryview(self._map)

    # -- what is in it

    @property
    def session(self) -> bytes:
        """The MoldUDP64 session, 10 bytes, or empty while there is none."""
        if self._epoch != self._header[_EPOCH]:
            self._epoch = self._header[_EPOCH]
            self._session = struct.pack("<2Q", self._header[_SESSION_LOW], self._header[_SESSION_HIGH])[:10]
            if self._session == bytes(10):
                self._session = b""
        return self._session

    @property
    def first_sequence(self) -> int:
        """The lowest sequence stored in this session (it may have been overwritten since); 0 when empty."""
        return int(self._header[_FIRST])

    @property
    def next_sequence(self) -> int:
        """One past the highest sequence stored; 1 when empty."""
        return int(self._header[_NEXT])

    @property
    def complete_to(self) -> int:
        """Everything from 1 up to here, exclusive, is or was held. Known to the writer only."""
        return self._complete if self.first_sequence == 1 else 1

    def __len__(self) -> int:
        """How many messages were stored in this session, overwritten ones included."""
        return int(self._header[_HELD])

    def __contains__(self, sequence: int) -> bool:
        if not 1 <= sequence < _LAPS << self._shift:
            return False
        entry = self._index[sequence & self._mask]
        header = self._header
        oldest = max(header[_SESSION_BEGIN], header[_INTENT] - self.max_bytes)
        return bool(entry >> 48 == sequence >> self._shift and oldest <= entry & _POSITION < header[_WRITTEN])

    def messages_from(self, first: int, max_count: int, max_bytes: int) -> tuple[int, bytes]:
        """Return (count, blocks): the messages from `first` on, as many as are held in a row and fit
        `max_bytes`.

        (0, b"") when `first` is not held, or does not fit.
        """
        header = self._header
        following: int = header[_NEXT]
        if first < 1 or first >= following or first + self.max_messages <= following:
            return 0, b""
        end = min(first + max_count, following)
        sequence, room = first, max_bytes
        parts: list[bytes] = []
        lowest: int = header[_INTENT]
        while sequence < end:
            run = self._run(sequence, end, room)
            if run is None:
                break
            sequence, start, size = run
            begin = start % self.max_bytes
            parts.append(self._data[begin : begin + size].tobytes())
            lowest = min(lowest, start)
            room -= size
        if header[_INTENT] - self.max_bytes > lowest:  # the writer came round while we copied
            return 0, b""
        return sequence - first, parts[0] if len(parts) == 1 else b"".join(parts)

    def _run(self, sequence: int, end: int, room: int) -> tuple[int, int, int] | None:
        """(sequence behind it, position.

        Bytes) of the messages from `sequence` that lie behind one another within `room`.
        """
        if sequence not in self:
            return None
        index = self._index
        slot = sequence & self._mask
        entry = index[slot]
        stop = min(slot + end - sequence, self.max_messages)  # the index's end also ends a run
        cut = self._map.find(b"\0", self._joined_at + slot + 1, self._joined_at + stop)
        if cut >= 0:
            stop = cut - self._joined_at
        last = bisect_right(index, entry + room, slot, stop) - 1
        # A hole may carry the mark of an earlier lap. If the last is held, so is all before it: each was
        # marked when it was written.
        if last < slot or sequence + last - slot not in self:
            last = slot
        size = self._end_of(entry, index[last])
        if size > room:
            if last == slot:
                return None
            last -= 1
            size = self._end_of(entry, index[last])
        return (sequence + last + 1 - slot, entry & _POSITION, size) if 2 <= size <= room else None

    def _end_of(self, entry: int, last: int) -> int:
        """Bytes from the block of index entry `entry` to the end of that of `last`."""
        offset: int = last - entry
        at = (entry & _POSITION) % self.max_bytes + offset
        if not 0 <= at < self.max_bytes - 1:  # torn by a writer that came round
            return 0
        return offset + 2 + (self._data[at] << 8 | self._data[at + 1])

    def messages(self) -> Iterator[tuple[int, bytes]]:
        """Each (sequence, message) still held, in order."""
        sequence = max(self.first_sequence, self.next_sequence - self.max_messages)
        while sequence < self.next_sequence:
            count, blocks = self.messages_from(sequence, 1, 65537)
            if count:
                yield sequence, blocks[2:]
            sequence += 1

    # -- writing

    def reset(self, session: bytes) -> None:
        """Forget everything and start `session` (10 bytes, or empty: none yet)."""
        if len(session) not in (0, 10):
            raise ValueError(f"session: {session!r} has {len(session)} bytes, MoldUDP64 has 10")
        header = self._header
        header[_NEXT] = 1  # readers find nothing from here on
        header[_SESSION_BEGIN] = header[_WRITTEN]
        header[_FIRST] = header[_HELD] = 0
        header[_SESSION_LOW], header[_SESSION_HIGH] = struct.unpack("<2Q", session.ljust(16, b"\0"))
        header[_EPOCH] += 1
        self._tail_sequence = self._complete = 0

    def append(self, sequence: int, message: bytes) -> int:
        """Store one message; returns 1, or 0 when it was there already."""
        return self.append_blocks(sequence, 1, struct.pack(">H", len(message)) + message)

    def append_blocks(self, first: int, count: int, blocks: bytes | memoryview) -> int:
        """Store the `count` message blocks of one packet, numbered from `first`; returns how many were new.

        Raises ValueError when the blocks do not end exactly at the end of `blocks` (nothing is stored then),
        or a number is out of the store's range.
        """
        end = first + count
        if first < 1 or end > _LAPS << self._shift:
            raise ValueError(f"sequence {first}: this store holds 1 to {(_LAPS << self._shift) - 1}")
        offsets, offset, size = [], 0, len(blocks)
        try:
            for _ in range(count):
                offsets.append(offset)
                offset += 2 + (blocks[offset] << 8 | blocks[offset + 1])
        except IndexError:
            offset = -1
        if offset != size:
            raise ValueError(f"blocks: {count} messages do not end at byte {size}")
        header = self._header
        if (end <= self._complete and first >= header[_FIRST]) or not count:
            return 0
        position: int = header[_WRITTEN]
        skip = self.max_bytes - position % self.max_bytes
        joined = first == self._tail_sequence
        if skip < size:
            if size > self.max_bytes:
                raise ValueError(f"blocks: {size} bytes, the store has {self.max_bytes}")
            position += skip
            joined = False
        following: int = header[_NEXT]
        wanted = None if first >= following else [first + i not in self for i in range(count)]
        new = count if wanted is None else sum(wanted)
        if not new:
            return 0
        header[_INTENT] = position + size
        begin = position % self.max_bytes
        self._data[begin : begin + size] = blocks
        if wanted is None:
            self._index_new(first, position, offsets, joined=joined)
            self._tail_sequence = end
        else:
            self._index_some(first, position, offsets, wanted)
            self._tail_sequence = 0
        header[_WRITTEN] = position + size
        if end > following:
            header[_NEXT] = end
        header[_HELD] += new
        self._advance(first, end)
        return new

    def _index_new(self, first: int, position: int, offsets: list[int], *, joined: bool) -> None:
        """Index messages above all others."""
        index, mask, shift, joined_at = self._index, self._mask, self._shift, self._joined_at
        slot = first & mask
        count = len(offsets)
        if slot + count <= self.max_messages:  # the usual case: one lap, no wrap
            marks = _JOINED[:count] if joined else b"\0" + _JOINED[: count - 1]
            if len(marks) == count:
                self._map[joined_at + slot : joined_at + slot + count] = marks
                base = (first >> shift) << 48 | position
                if count == 1:
                    index[slot] = base
                else:
                    index[slot : slot + count] = memoryview(array("Q", [base + offset for offset in offsets]))
                return
        for sequence, offset in enumerate(offsets, first):
            self._map[joined_at + (sequence & mask)] = joined
            index[sequence & mask] = (sequence >> shift) << 48 | position + offset
            joined = True

    def _index_some(self, first: int, position: int, offsets: list[int], wanted: list[bool]) -> None:
        """Index the wanted ones among messages that others may surround.

        What was behind one of them no longer is.
        """
        index, mask, shift, joined_at = self._index, self._mask, self._shift, self._joined_at
        for sequence, (offset, want) in enumerate(zip(offsets, wanted, strict=True), first):
            if want:
                for neighbour in (sequence, sequence + 1):
                    self._map[joined_at + (neighbour & mask)] = 0
                index[sequence & mask] = (sequence >> shift) << 48 | position + offset

    def _advance(self, first: int, end: int) -> None:
        header = self._header
        if not header[_FIRST] or first < header[_FIRST]:
            header[_FIRST] = first
            self._complete = end
        elif first <= self._complete < end:
            self._complete = end
        else:
            return
        if self._complete < header[_NEXT] and self._complete in self:  # millions may follow
            missing = self.next_missing(self._complete, header[_NEXT])
            self._complete = missing[0] if missing else header[_NEXT]

    def _find_complete(self) -> int:
        """The first number from `first_sequence` on that was never stored."""
        if not self.first_sequence:
            return 0
        missing = self.next_missing(self.first_sequence, self.next_sequence)
        return missing[0] if missing else self.next_sequence

    def next_missing(self, first: int, end: int) -> tuple[int, int] | None:
        """Return the lowest range [first, end) of numbers never stored, within the one given; None without
        one.

        What was stored and has been overwritten is not missing. A number that far back that its index entry
        was used again is not either.
        """
        sequence = begin = max(first, 1, self.next_sequence - self.max_messages + 1)
        found = False
        while sequence < end:
            count = min(end - sequence, self.max_messages - (sequence & self._mask), 1 << 20)
            stored = self._was_stored(sequence, count)
            places = np.flatnonzero(stored if found else ~stored)
            if places.size and found:
                return begin, sequence + int(places[0])
            if places.size:
                found = True
                begin = sequence = sequence + int(places[0])
            else:
                sequence += count
        return (begin, end) if found else None

    def _was_stored(self, sequence: int, count: int) -> npt.NDArray[np.bool_]:
        """Whether each of `count` numbers, all of one lap, was stored in this session."""
        slot = sequence & self._mask
        entries = np.frombuffer(self._index, dtype=np.uint64)[slot : slot + count]
        this_lap = entries >> np.uint64(48) == np.uint64(sequence >> self._shift)
        position = entries & np.uint64(_POSITION)
        header = self._header
        this_session = (position >= np.uint64(header[_SESSION_BEGIN])) & (
            position < np.uint64(header[_WRITTEN])
        )
        stored: npt.NDArray[np.bool_] = this_lap & this_session
        return stored


def _lock(descriptor: int, name: str) -> None:
    """Keep other writers out for as long as the file is mapped: the mapping holds the open file."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise RunError(f'store: "{name}": another process writes it') from error


def _remove(path: str | os.PathLike[str]) -> None:
    """Remove an old store unless it has a writer; readers that have it mapped keep it."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    _lock(descriptor, os.fspath(path))
    Path(path).unlink()
    os.close(descriptor)


def _boot_id() -> tuple[int, int]:
    """The kernel's name for this boot; zeros when it is hidden (systemd's ProcSubset=pid)."""
    try:
        text = Path("/proc/sys/kernel/random/boot_id").read_text()
    except OSError:
        return 0, 0
    value = int(text.strip().replace("-", ""), 16)
    return value & (1 << 64) - 1, value >> 64
