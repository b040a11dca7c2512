"""The message store against a dictionary."""

import gzip
import shutil
import signal
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feedhandler.errors import RunError, UsageError
from recovery.feeders.binaryfile import feed_binaryfile
from recovery.store import MIN_BYTES, MIN_MESSAGES, MessageStore

SESSION = b"SESSION01 "


def block(message: bytes) -> bytes:
    """A message block as on the wire."""
    return struct.pack(">H", len(message)) + message


def blocks(messages: list[bytes]) -> bytes:
    """The blocks of a packet."""
    return b"".join(block(m) for m in messages)


def naive_messages_from(
    held: dict[int, bytes], first: int, max_count: int, max_bytes: int
) -> tuple[int, bytes]:
    """What the store must answer, from a dictionary."""
    count, out = 0, b""
    while (
        count < max_count and first + count in held and len(out) + 2 + len(held[first + count]) <= max_bytes
    ):
        out += block(held[first + count])
        count += 1
    return count, out


def text(sequence: int) -> bytes:
    """A message that tells its number, of a length that depends on it; some are empty."""
    return (b"%d." % sequence * 9)[: sequence % 7 * 8]


packets = st.lists(st.tuples(st.integers(1, 120), st.integers(0, 12)), max_size=60)
reads = st.lists(
    st.tuples(st.integers(0, 140), st.integers(0, 40), st.integers(0, 300)), min_size=1, max_size=20
)


@given(packets, reads)
@settings(max_examples=300, deadline=None)
def test_any_order_of_packets_reads_as_a_dictionary_does(
    packets: list[tuple[int, int]], reads: list[tuple[int, int, int]]
) -> None:
    """In order, out of order, overlapping, with holes.

    Reads return exactly the run held from the number asked for.
    """
    held: dict[int, bytes] = {}
    with MessageStore.create(session=SESSION, max_messages=1, max_bytes=1) as store:
        for first, count in packets:
            new = store.append_blocks(first, count, blocks([text(first + i) for i in range(count)]))
            assert new == len({first + i for i in range(count)} - held.keys())
            held |= {first + i: text(first + i) for i in range(count)}
        for first, max_count, max_bytes in reads:
            assert store.messages_from(first, max_count, max_bytes) == naive_messages_from(
                held, first, max_count, max_bytes
            )
        assert len(store) == len(held)
        assert store.next_sequence == max(held, default=0) + 1
        assert store.first_sequence == min(held, default=0)
        assert [s for s in range(140) if s in store] == sorted(held)


few_packets = st.lists(st.tuples(st.integers(1, 12), st.integers(1, 6)), max_size=5)


@given(few_packets, few_packets)
@settings(max_examples=300, deadline=None)
def test_second_session_never_shows_the_first_ones_messages(
    first: list[tuple[int, int]], second: list[tuple[int, int]]
) -> None:
    """Marks and entries of an earlier session lie in the same slots and must not be believed."""
    held: dict[int, bytes] = {}
    with MessageStore.create(session=SESSION, max_messages=1, max_bytes=1) as store:
        for start, count in first:
            store.append_blocks(start, count, blocks([b"old" + text(start + i) for i in range(count)]))
        store.reset(b"SESSION02 ")
        for start, count in second:
            store.append_blocks(start, count, blocks([text(start + i) for i in range(count)]))
            held |= {start + i: text(start + i) for i in range(count)}
        for start in range(1, 20):
            assert store.messages_from(start, 30, 400) == naive_messages_from(held, start, 30, 400)


def test_first_copy_wins() -> None:
    """A second copy of a number is not stored, whatever it says."""
    with MessageStore.create(session=SESSION) as store:
        assert store.append(1, b"first") == 1
        assert store.append(1, b"second") == 0
        assert store.append_blocks(1, 2, blocks([b"third", b"two"])) == 1
        assert store.messages_from(1, 9, 100) == (2, blocks([b"first", b"two"]))


@pytest.mark.parametrize("damaged", [b"\x00", b"\x00\x05abc", b"\x00\x01ab"])
def test_blocks_that_do_not_end_with_the_packet_are_refused_whole(damaged: bytes) -> None:
    """A damaged packet leaves no message behind, not even those before the damage."""
    with MessageStore.create(session=SESSION) as store:
        with pytest.raises(ValueError, match="do not end"):
            store.append_blocks(1, 2, block(b"good") + damaged)
        assert len(store) == 0
        assert store.next_sequence == 1


def test_number_beyond_the_index_tag_is_refused() -> None:
    """A wild sequence number cannot alias an earlier one."""
    with MessageStore.create(session=SESSION, max_messages=MIN_MESSAGES) as store:
        with pytest.raises(ValueError, match="holds 1 to"):
            store.append(MIN_MESSAGES << 16, b"wild")
        with pytest.raises(ValueError, match="holds 1 to"):
            store.append(0, b"zero")


@pytest.mark.parametrize("size", [0, 40, 1000])
def test_bounded_store_keeps_the_newest(size: int) -> None:
    """When the data or the index are full, the oldest go, and what is left is right to the last byte."""
    count = 2 * MIN_MESSAGES + 100
    with MessageStore.create(session=SESSION, max_messages=MIN_MESSAGES, max_bytes=MIN_BYTES) as store:
        for first in range(1, count, 10):
            store.append_blocks(first, 10, blocks([b"%d" % (first + i) + b"." * size for i in range(10)]))
        end = store.next_sequence
        held = [s for s in range(1, end) if store.messages_from(s, 1, 2000)[0]]
        assert held == list(range(held[0], end))
        expected = min(MIN_MESSAGES - 1, MIN_BYTES // (size + 8))
        assert expected * 0.97 <= len(held) <= MIN_MESSAGES
        assert [m for _, m in store.messages()] == [b"%d" % s + b"." * size for s in held]


steps = st.lists(
    st.tuples(st.sampled_from("nnnnoorsw"), st.integers(-40, 20), st.integers(1, 9), st.integers(0, 400)),
    min_size=1,
    max_size=120,
)


@given(steps)
@settings(max_examples=400, deadline=None)
def test_ring_that_laps_itself_never_gives_a_wrong_message(steps: list[tuple[str, int, int, int]]) -> None:
    """Sixteen numbers and a page of data, lapped again and again: in order, late, repeated, over session
    changes.

    Whatever is read is the message of that number and session, in a row from the number asked for; and the
    newest message is always there.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("recovery.store.MIN_MESSAGES", 16)
        patch.setattr("recovery.store.MIN_BYTES", 4096)
        store = MessageStore.create(session=SESSION, max_messages=16, max_bytes=4096)
    with store:
        stored: set[int] = set()
        session = 0

        def message(number: int) -> bytes:
            return b"%d:%d" % (session, number) + b"." * (number * 37 % size_limit)

        size_limit = 100
        for kind, offset, count, size in steps:
            if kind == "s":
                session += 1
                store.reset(b"SESSION%03d" % session)
                stored.clear()
                size_limit = 1 + size
            first = store.next_sequence if kind == "n" else max(1, store.next_sequence + offset)
            if kind != "r":
                store.append_blocks(first, count, blocks([message(first + i) for i in range(count)]))
                stored |= set(range(first, first + count))
                newest = store.next_sequence - 1
                if newest == first + count - 1:
                    assert store.messages_from(newest, 1, 5000) == (1, block(message(newest)))
            for start in (first, first - 3, first + 1, store.next_sequence - 16):
                held, data = store.messages_from(start, 20, 1500)
                assert {start + i for i in range(held)} <= stored
                assert data == blocks([message(start + i) for i in range(held)])


def test_rewritten_old_message_does_not_join_its_old_neighbour() -> None:
    """A number that was overwritten and comes again lies elsewhere: its successor no longer follows it."""
    with MessageStore.create(session=SESSION, max_messages=MIN_MESSAGES, max_bytes=MIN_BYTES) as store:
        big = b"x" * 40_000
        store.append(5, b"five")  # a hole below, so that nothing counts as complete
        store.append_blocks(10, 2, blocks([big, b"eleven"]))
        for i in range(26):
            if 10 not in store:
                break
            store.append(20 + i, big)
        assert 10 not in store
        assert 11 in store
        assert store.append(10, b"ten") == 1
        assert store.messages_from(10, 2, 1000) == (2, blocks([b"ten", b"eleven"]))


def test_reopened_store_goes_on(tmp_path: Path) -> None:
    """Closed and opened for writing again: the messages, the session and the duplicates are known."""
    path = tmp_path / "s.store"
    with MessageStore.create(path, session=SESSION) as store:
        store.append_blocks(1, 3, blocks([b"a", b"b", b"c"]))
        store.append(7, b"g")
    with MessageStore.open(path, writable=True) as store:
        assert store.session == SESSION
        assert store.append_blocks(1, 3, blocks([b"x", b"y", b"z"])) == 0
        assert store.append_blocks(3, 2, blocks([b"x", b"d"])) == 1
        assert store.messages_from(1, 9, 100) == (4, blocks([b"a", b"b", b"c", b"d"]))
        assert store.messages_from(7, 9, 100) == (1, block(b"g"))


def test_writer_killed_leaves_a_store_that_goes_on(tmp_path: Path) -> None:
    """kill -9 in the middle of appending: what was stored is right, and a new writer appends behind it."""
    path = tmp_path / "s.store"
    program = (
        "import sys; from recovery.store import MessageStore\n"
        f"s = MessageStore.create({str(path)!r}, session=b'SESSION01 ', max_messages=1, max_bytes=1)\n"
        "n = 1\n"
        "while True:\n"
        "    for _ in range(1000): s.append(n, b'%d' % n); n += 1\n"
        "    print(n, flush=True)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        for _ in range(3):
            writer.stdout.readline()
        writer.send_signal(signal.SIGKILL)
        writer.wait()
    with MessageStore.open(path, writable=True) as store:
        last = store.next_sequence - 1
        assert last >= 3000
        store.append(last + 1, b"after")
        assert [m for _, m in store.messages()][-3:] == [b"%d" % (last - 1), b"%d" % last, b"after"]


def test_store_of_a_machine_that_went_down_starts_empty(tmp_path: Path) -> None:
    """Not closed, and another boot: any page may be missing, so nothing in it is served."""
    path, crashed = tmp_path / "s.store", tmp_path / "crashed.store"
    with MessageStore.create(path, session=SESSION, max_messages=1, max_bytes=1) as store:
        store.append(1, b"one")
        shutil.copyfile(path, crashed)
    with MessageStore.open(crashed, writable=True) as again:
        assert len(again) == 1  # the same boot: only the process died
        again._header[9] ^= 1
        shutil.copyfile(crashed, path)
    with MessageStore.open(path, writable=True) as again:
        assert len(again) == 0
        assert again.session == SESSION


def test_unclean_store_is_not_trusted_where_the_boot_cannot_be_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sandbox without /proc/sys: the store works, but one left by a crash starts empty."""
    real = Path.read_text
    path, crashed = tmp_path / "s.store", tmp_path / "crashed.store"

    def hidden(self: Path, *arguments: object) -> str:
        if str(self).startswith("/proc/sys"):
            raise FileNotFoundError
        return real(self, *arguments)

    monkeypatch.setattr(Path, "read_text", hidden)
    with MessageStore.create(path, session=SESSION, max_messages=1, max_bytes=1) as store:
        store.append(1, b"one")
        shutil.copyfile(path, crashed)
    for file, messages in ((path, 1), (crashed, 0)):
        with MessageStore.open(file, writable=True) as again:
            assert len(again) == messages


def test_second_writer_is_refused(tmp_path: Path) -> None:
    """Neither opening for writing nor replacing the file takes it from its writer; reading is free."""
    path = tmp_path / "s.store"
    with MessageStore.create(path, session=SESSION, max_messages=1, max_bytes=1) as store:
        store.append(1, b"one")
        for second in (lambda: MessageStore.open(path, writable=True), lambda: MessageStore.create(path)):
            with pytest.raises(RunError, match="another process writes it"):
                second()
        with MessageStore.open(path) as reader:
            assert reader.messages_from(1, 1, 100) == (1, block(b"one"))
    MessageStore.create(path).close()


def test_reader_in_another_process_sees_only_whole_messages(tmp_path: Path) -> None:
    """While the writer laps the ring many times, a reader gets right messages or nothing, never a mixture."""
    path = tmp_path / "s.store"
    reader = (
        "import sys; from recovery.store import MessageStore\n"
        f"s = MessageStore.open({str(path)!r})\n"
        "print('ready', flush=True)\n"
        "good = none = 0\n"
        "import random; r = random.Random(1)\n"
        "while s.next_sequence < 400_000:\n"
        "    first = max(1, s.next_sequence - r.randrange(1, 30_000))\n"
        "    count, blocks = s.messages_from(first, 20, 2000)\n"
        "    told = [b'%d' % n * 4 for n in range(first, first + count)]\n"
        "    want = b''.join(len(m).to_bytes(2, 'big') + m for m in told)\n"
        "    assert blocks == want, (first, count, blocks, want)\n"
        "    good += count; none += not count\n"
        "print(good, none)\n"
    )
    with MessageStore.create(path, session=SESSION, max_messages=1, max_bytes=1) as store:
        child = subprocess.Popen(
            [sys.executable, "-c", reader], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
        for first in range(1, 400_001, 5):
            store.append_blocks(first, 5, blocks([b"%d" % n * 4 for n in range(first, first + 5)]))
        out, errors = child.communicate(timeout=60)
    assert child.returncode == 0, errors.decode()
    assert int(out.split()[0]) > 0


def test_file_that_is_no_store_is_refused_with_its_name(tmp_path: Path) -> None:
    """One line with the path, whether the file is missing, short, or something else."""
    with pytest.raises(UsageError, match=r'store: ".*none": No such file'):
        MessageStore.open(tmp_path / "none")
    for content in (b"", b"x" * 10_000):
        (tmp_path / "other").write_bytes(content)
        with pytest.raises(UsageError, match=r'store: ".*other" is not a message store'):
            MessageStore.open(tmp_path / "other")


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("end", [b"", b"\x00\x00", b"\x00\x00trailing bytes behind the end"])
def test_binaryfile_is_numbered_from_one_up_to_its_end_record(
    tmp_path: Path, compress: bool, end: bytes
) -> None:
    """Plain or gzip by content; a zero-length record ends it, as does the end of the file."""
    messages = [b"%d" % n * (n % 40 + 1) for n in range(30_000)]
    data = blocks(messages) + end
    path = tmp_path / "day.bin"
    path.write_bytes(gzip.compress(data, 1) if compress else data)
    with MessageStore.create(session=SESSION) as store:
        assert feed_binaryfile(store, path) == len(messages)
        assert [m for _, m in store.messages()] == messages


@pytest.mark.parametrize(("tail", "offset"), [(b"\x00", 12), (b"\x00\x05abc", 12), (b"\x00\x05", 12)])
def test_incomplete_last_record_is_named_by_its_offset(tmp_path: Path, tail: bytes, offset: int) -> None:
    """What was read stays; the error tells where the file broke off."""
    path = tmp_path / "cut.bin"
    path.write_bytes(blocks([b"abcd", b"efgh"]) + tail)
    with MessageStore.create(session=SESSION) as store:
        with pytest.raises(RunError, match=rf'cut.bin": incomplete record at byte {offset}, 2 messages'):
            feed_binaryfile(store, path)
        assert [m for _, m in store.messages()] == [b"abcd", b"efgh"]
