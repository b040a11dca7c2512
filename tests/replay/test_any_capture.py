"""Whatever packets a capture holds: every number from first to last is applied or counted as lost."""

import struct
from pathlib import Path

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from feedhandler.replay.options import Faults, ReplayOptions
from feedhandler.replay.player import Player
from feedhandler.replay.source import open_source
from tests.support import itch_messages as itch
from tests.support.replay_files import GROUP_A, GROUP_B, link, mold, mold_end, pcap, udp

SESSIONS = (b"SESSION__1", b"SESSION__2", b"SESSION__3")
FAR = 50_000_000  # beyond what one packet alone is believed


def message(sequence: int) -> bytes:
    """The message with this number: the same in every packet."""
    return itch.add(
        sequence, "B" if sequence % 2 else "S", 100, 10_000 + sequence % 50 + (1 - sequence % 2) * 100
    )


session = st.sampled_from(SESSIONS)
number = st.one_of(st.integers(0, 60), st.integers(FAR, FAR + 20), st.just(2**64 - 1))
packet = st.one_of(
    st.builds(
        lambda name, first, count: mold(first, [message(first + i) for i in range(count)], name),
        session,
        st.one_of(st.integers(1, 60), st.integers(FAR, FAR + 20)),
        st.integers(1, 10),
    ),
    st.builds(lambda name, sequence: mold_end(sequence, name), session, number),
    st.builds(lambda name, sequence: name + struct.pack(">QH", sequence, 0), session, number),
    st.binary(max_size=40),
)
captures = st.lists(
    st.tuples(packet, st.sampled_from([GROUP_A, GROUP_B]), st.integers(-(10**6), 10**7)), min_size=1
)
faults = st.builds(Faults, drop=st.floats(0, 0.5), duplicate=st.floats(0, 0.5), reorder=st.floats(0, 0.5))
ONE = mold(1, [message(1)], SESSIONS[0])


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(packets=captures, faults=faults, rewind=st.booleans(), lines=st.integers(1, 2))
@example([(SESSIONS[0] + struct.pack(">QH", FAR, 0), GROUP_A, 0)], Faults(duplicate=1.0), False, 1)
@example([(ONE, GROUP_A, 0), (mold_end(FAR, SESSIONS[0]), GROUP_A, 0)], Faults(), True, 2)
@example([(ONE, GROUP_A, 0), (mold_end(2, SESSIONS[0]), GROUP_A, 0), (ONE, GROUP_A, 0)], Faults(), True, 2)
@example(
    [(mold_end(9, SESSIONS[0]), GROUP_A, 0), (mold(3, [message(3)], SESSIONS[1]), GROUP_A, 0)],
    Faults(),
    True,
    1,
)
@example(
    [
        (mold(FAR, [message(FAR)], SESSIONS[0]), GROUP_A, 0),
        (SESSIONS[0] + struct.pack(">QH", FAR - 10_000_000, 0), GROUP_A, 0),
        (SESSIONS[0] + struct.pack(">QH", FAR, 0), GROUP_A, 0),
    ],
    Faults(),
    False,
    1,
)
@example(
    [
        (mold_end(2, SESSIONS[0]), GROUP_A, 0),
        (mold_end(FAR + 1, SESSIONS[2]), GROUP_A, 0),
        (mold(FAR + 16, [message(FAR + 16)], SESSIONS[1]), GROUP_A, 0),
    ],
    Faults(),
    False,
    1,
)
@example(
    [
        (mold_end(1 << 25, SESSIONS[0]), GROUP_A, 0),  # believed with the last packet only
        (b"", GROUP_A, 2_000_000),
        (mold(1, [message(1)], SESSIONS[1]), GROUP_A, 0),
        (SESSIONS[0] + struct.pack(">QH", 1 << 25, 0), GROUP_A, 0),
    ],
    Faults(),
    False,
    1,
)
@example(
    [
        (b"", GROUP_A, 0),
        (mold(1, [message(1)], SESSIONS[1]), GROUP_A, 0),  # overtaken by the end of the session before
        (mold_end(2, SESSIONS[0]), GROUP_A, 0),
        *[(b"", GROUP_A, 0)] * 9,
    ],
    Faults(reorder=0.5),
    False,
    1,
)
def test_every_number_is_applied_or_lost(
    tmp_path: Path,
    packets: list[tuple[bytes, tuple[str, int], int]],
    faults: Faults,
    rewind: bool,
    lines: int,
) -> None:
    """Ends, and the counts add up, for sessions that end, begin, stray and contradict themselves."""
    clock, frames = 10**18, []
    for payload, group, step in packets:
        clock += step
        frames.append((clock, link(udp(payload, group))))
    first_ones = [
        (10**18, link(udp(ONE, group))) for group in (GROUP_A, GROUP_B)
    ]  # so that both groups are found
    path = tmp_path / "x"
    path.write_bytes(pcap(first_ones + frames))
    options = ReplayOptions(faults=faults, rewind=rewind, lines=lines, schemas=("mbo",))
    player = Player(open_source(path), options)
    expected = sum(end - first for _, first, end in player._replay.sessions)
    counts = player.play().counts
    recovered = counts["recovered_line"] + counts["recovered_rewind"]
    assert counts["messages"] + counts["unrecovered"] == expected
    assert counts["gap_messages"] == recovered + counts["unrecovered"]
    assert counts["state"] == "ENDED"
