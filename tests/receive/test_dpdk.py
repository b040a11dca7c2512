"""What is special to DPDK; what all receive modes have in common is in test_conformance.py."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import dpkt
import pytest

from feedhandler import _core
from tests.support.daemon import COMMAND, environment
from tests.support.frames import multicast_address, packet
from tests.support.wait import wait_for

ROOT = Path(__file__).resolve().parent.parent
GROUP, PORT = "239.77.4.1", 30001
HEADER = multicast_address(GROUP) + b"\x02\0\0\0\0\x01\x08\x00"
LINE = _core.LineSettings("A", GROUP, PORT, "lo")

# Each EAL needs a process of its own: it starts once in each. What it prints must not come out.
READER = """
import json, os, sys, time
from feedhandler import _core
settings, count = json.loads(sys.argv[1]), int(sys.argv[2])
before = os.sched_getaffinity(0)
source = _core.Source([_core.LineSettings("A", "239.77.4.1", 30001, "lo")], settings)
got, deadline = [], time.monotonic() + 20
while len(got) < count and time.monotonic() < deadline:
    got += [payload.decode() for _, payload, _, _ in source.poll()]
got += [payload.decode() for _, payload, _, _ in source.poll()]
kept = os.sched_getaffinity(0) == before
source.stats(0)
print(json.dumps({"got": got, "kept": kept, "counters": source.counters()}))
"""


def read(
    settings: dict[str, Any], count: int, prefix: Sequence[str] = ()
) -> subprocess.CompletedProcess[str]:
    """Receive so many datagrams in a process of its own."""
    return subprocess.run(
        [*prefix, sys.executable, "-c", READER, json.dumps(settings), str(count)],
        env=environment(),
        cwd=ROOT.parent,
        capture_output=True,
        text=True,
        timeout=60,
    )


def failure(settings: dict[str, Any]) -> str:
    """Return the last line of a process that must not be able to receive, after which nothing else came."""
    done = read(settings, 1)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("Traceback"), "a library printed something"
    return done.stderr.splitlines()[-1]


def write_pcap(path: Path, frames: Sequence[bytes]) -> Path:
    """Write a capture that everybody may read."""
    with path.open("wb") as file:
        writer = dpkt.pcap.Writer(file)
        for i, frame in enumerate(frames):
            writer.writepkt(frame, ts=1e9 + i / 1000)
    path.chmod(0o644)
    for folder in path.parents:
        if folder.is_relative_to("/tmp") and folder != Path("/tmp") and folder.owner() == path.owner():
            folder.chmod(0o755)
    return path


def frame(payload: bytes, group: str = GROUP) -> bytes:
    """Return an Ethernet frame of a line."""
    return HEADER + packet(payload, group, PORT, "198.18.0.1")


def test_capture_is_received_whole_and_in_order_by_nobody(tmp_path: Path) -> None:
    """No privilege, no huge pages, no network: 1,000 of 1,000 frames, the right bytes, a silent terminal."""
    pcap = write_pcap(tmp_path / "a.pcap", [frame(b"%d" % i) for i in range(1000)])
    settings = {"mode": "dpdk", "dpdk": {"ports": {"lo": f"net_pcap0,rx_pcap={pcap}"}}}
    prefix = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"] if os.geteuid() == 0 else []
    done = read(settings, 1000, prefix)
    assert done.stderr == ""
    answer = json.loads(done.stdout)
    assert answer["got"] == [str(i) for i in range(1000)]
    assert answer["kept"], "the thread that opened it runs elsewhere now"
    assert set(answer["counters"].values()) == {0}


def test_what_is_no_plain_datagram_of_the_line_is_counted(tmp_path: Path) -> None:
    """Frames straight from a device, without a filter before."""
    good = frame(b"good")
    frames = [
        *(frame(b"x", "239.77.4.2"), b"\xff" * 60, HEADER[:12] + b"\x08\x06" + b"\0" * 46),
        good[:12] + b"\x81\x00\x00\x05" + good[12:],
        *(good[:-1] + b"x", good[:40], good[:20] + b"\x20\x00" + good[22:]),
        good,
    ]
    pcap = write_pcap(tmp_path / "a.pcap", frames)
    settings = {"mode": "dpdk", "dpdk": {"ports": {"lo": f"net_pcap0,rx_pcap={pcap}"}}}
    answer = json.loads(read(settings, 1).stdout)
    assert answer["got"] == ["good"]
    counted = {name: count for name, count in answer["counters"].items() if count}
    assert counted == {
        "other_traffic": 3,
        "tagged": 1,
        "bad_checksums": 1,
        "bad_frames": 1,
        "fragments": 1,
    }


def test_ports_are_closed_and_can_be_opened_again_in_one_process(tmp_path: Path) -> None:
    """The EAL stays; its ports and their memory do not."""
    pcap = write_pcap(tmp_path / "a.pcap", [frame(b"x")])
    program = (
        "import sys\n"
        "from feedhandler import _core\n"
        "line = _core.LineSettings('A', '239.77.4.1', 30001, 'lo')\n"
        "settings = {'mode': 'dpdk', 'dpdk': {'ports': {'lo': sys.argv[1]}, 'memory_mib': 64}}\n"
        "for _ in range(10):\n"
        "    source = _core.Source([line], settings)\n"
        "    assert [payload for _, payload, _, _ in source.poll()] == [b'x']\n"
        "    del source\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, f"net_pcap0,rx_pcap={pcap}"],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize(
    ("dpdk", "message"),
    [
        ({"ports": {}}, "receive.dpdk.ports: no port for device lo"),
        (
            {"ports": {"lo": "net_none0"}},
            'receive.mode "dpdk": net_none0: cannot be opened as receive.dpdk.ports says '
            '(EAL: failed to parse device "net_none0")',
        ),
        (
            {"ports": {"lo": "0000:ff:1f.7"}},
            'receive.mode "dpdk": 0000:ff:1f.7: cannot be opened as receive.dpdk.ports says '
            "(EAL: Cannot find device (0000:ff:1f.7))",
        ),
        (
            {"ports": {"lo": "net_null0"}, "eal": ["--no-such"]},
            'receive.mode "dpdk": the EAL does not start with --no-telemetry --lcores=0@CPU -m 256 --no-huge '
            "--no-shconf --no-pci --no-such: Invalid argument "
            "(EAL: Invalid 'command line' arguments.)",
        ),
        (
            {"ports": {"lo": "net_null0"}, "memory_mib": 16, "rx_descriptors": 32768},
            'receive.mode "dpdk": net_null0: no memory for 33280 frames of 2176 bytes: '
            "receive.dpdk.memory_mib is too small",
        ),
    ],
)
def test_what_cannot_be_had_is_told_in_one_line(dpdk: dict[str, Any], message: str) -> None:
    """The usage that the EAL prints and the lines of drivers come down to the one that says why."""
    said = re.sub(r"lcores=0@\d+", "lcores=0@CPU", failure({"mode": "dpdk", "dpdk": dpdk}))
    assert said == f"RuntimeError: {message}"


@pytest.fixture(scope="module")
def stand_in(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """Compile plugins of this version and the next."""
    folder = tmp_path_factory.mktemp("plugin")
    source = ROOT / "support" / "dpdk_plugin.c"
    made = {}
    for version in (1, 2):
        made[version] = folder / f"v{version}.so"
        bytes_text = ",".join(map(str, frame(b"stamped")))
        subprocess.run(
            [
                *("gcc", "-O1", "-Wall", "-Wextra", "-shared", "-fPIC", f"-DVERSION={version}"),
                *(f"-DFRAME={bytes_text}", "-o", str(made[version]), str(source)),
            ],
            check=True,
            timeout=60,
        )
    return made


def open_with(plugin: Path) -> _core.Source:
    """Open a port by that plugin."""
    return _core.Source([LINE], {"mode": "dpdk", "dpdk": {"ports": {"lo": "net_x0"}, "plugin": str(plugin)}})


def test_plugin_of_another_version_is_refused(stand_in: dict[int, Path]) -> None:
    """Its structs may be others."""
    with pytest.raises(RuntimeError) as caught:
        open_with(stand_in[2])
    assert str(caught.value) == (
        f'receive.mode "dpdk": {stand_in[2]} is of version 2, this build needs version 1: build both together'
    )


def test_object_that_is_no_plugin_is_refused() -> None:
    """The core's own, for one."""
    with pytest.raises(RuntimeError, match=r"_core\..*so is no plugin for it"):
        open_with(Path(_core.__file__))


def test_device_times_are_utc_once_the_rate_of_its_clock_is_known(
    stand_in: dict[int, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A clock of 3 ticks a nanosecond; until it was compared over 50 ms its times are not used."""
    source = open_with(stand_in[1])
    monkeypatch.setenv("DPDK_FLAGS", str(1 | 16))  # intact, has ticks
    assert [kind for _, _, _, kind in source.poll()] == ["none"]

    def stamped() -> bool:
        source.stats(0)  # compares
        return [kind for _, _, _, kind in source.poll()] == ["hardware"]

    wait_for(stamped, "device times")
    before = time.time_ns()
    ((_, payload, time_ns, _),) = source.poll()
    after = time.time_ns()
    assert payload == b"stamped"
    assert before - 1_100_000 < time_ns < after - 900_000
    assert source.stats(0)["timestamp_kind"] == "hardware"


@pytest.mark.parametrize(("flag", "counter"), [(2, "bad_checksums"), (4, "tagged"), (8, "bad_frames")])
def test_frames_that_the_device_says_are_bad_are_refused(
    stand_in: dict[int, Path], monkeypatch: pytest.MonkeyPatch, flag: int, counter: str
) -> None:
    """Although their bytes look good: damaged, tagged, cut."""
    source = open_with(stand_in[1])
    monkeypatch.setenv("DPDK_FLAGS", str(flag))
    assert source.poll() == []
    assert source.counters() == dict.fromkeys(source.counters(), 0) | {counter: 1, "device_drops": 7}


def test_core_is_linked_to_nothing_of_dpdk() -> None:
    """Who does not ask for it needs none."""
    linked = subprocess.run(["ldd", _core.__file__], capture_output=True, text=True, check=True).stdout
    assert "libc.so" in linked
    assert "librte" not in linked
    plugin = subprocess.run(
        ["ldd", _core.default_dpdk_plugin()], capture_output=True, text=True, check=True
    ).stdout
    assert "librte_ethdev" in plugin


CONFIG = """\
[channel]
name = "dp"
[[line]]
name = "A"
group = "239.77.4.1"
port = 30001
interface = "lo"
[receive]
mode = "dpdk"
[receive.dpdk]
ports = {{ {device} = "net_null0" }}
plugin = "{plugin}"
[metrics]
listen = ""
"""


@pytest.mark.parametrize(
    ("device", "plugin", "message"),
    [
        ("lo", "/none/of.so", 'feed.toml: receive.dpdk.plugin: "/none/of.so" is not there'),
        ("eth9", "", "feed.toml: receive.dpdk.ports: has no port for lo of line[0], only for eth9"),
    ],
)
def test_daemon_that_lacks_what_dpdk_needs_says_so(
    tmp_path: Path, device: str, plugin: str, message: str
) -> None:
    """Exit status 2 and one line, before anything is started."""
    (tmp_path / "feed.toml").write_text(CONFIG.format(device=device, plugin=plugin))
    done = subprocess.run(
        [*COMMAND, "run", "--config", "feed.toml", "--runtime-dir", str(tmp_path / "run")],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].endswith(message)


def test_ports_left_open_are_closed_at_exit() -> None:
    """A source that is never deleted: without its end net_af_xdp would leave its program on the device."""
    program = (
        "import ctypes, faulthandler\n"
        "from feedhandler import _core\n"
        "settings = {'mode': 'dpdk', 'dpdk': {'ports': {'lo': 'net_null0'}, 'memory_mib': 64}}\n"
        "source = _core.Source([_core.LineSettings('A', '239.77.4.1', 30001, 'lo')], settings)\n"
        "ctypes.pythonapi.Py_IncRef(ctypes.py_object(source))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], env=environment(), capture_output=True, timeout=60)
    assert done.returncode == 0
