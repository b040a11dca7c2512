import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from feedhandler.config import Config, Receive, load, problems
from feedhandler.errors import UsageError

MINIMAL = """\
[channel]
name = "xnas-itch"
[[line]]
name = "A"
group = "233.54.12.111"
port = 26477
"""

RECEIVE_KEYS = ", ".join(Receive.model_fields)

DOCUMENTED = """\
[channel]
name = "xnas-itch"
protocol = "itch50"
dataset = "XNAS.ITCH"
session = ""
start = "live"
trading_day = ""
[[line]]
name = "A"
group = "233.54.12.111"
port = 26477
interface = "127.0.0.1"
source = ""
[receive]
mode = "socket"
cpu = -1
spin = true
line_down_s = 3.0
[recovery]
arbitration_ms = 1.0
timeout_ms = 50
retries = 4
max_outstanding = 4
requests_per_s = 1000
hold_messages = 1000000
[publish]
schemas = ["mbp-1", "trades", "status", "imbalance"]
depth = 10
ring_mib = 64
symbols = []
[journal]
directory = ""
[metrics]
listen = "127.0.0.1:9464"
"""

SCHEMAS = 'schemas = ["mbp-1", "trades", "status", "imbalance"]'


def write(tmp_path: Path, text: str) -> Path:
    """Write the configuration and return its path."""
    path = tmp_path / "feed.toml"
    path.write_text(text)
    return path


def error_of(tmp_path: Path, text: str, environ: dict[str, str] | None = None) -> str:
    """Return the one line that refuses the configuration, without the folder."""
    with pytest.raises(UsageError) as caught:
        load(write(tmp_path, text), environ or {})
    message = str(caught.value)
    assert "\n" not in message
    return message.removeprefix(f"{tmp_path}/")


def test_minimal_file_has_the_documented_defaults(tmp_path: Path) -> None:
    """A name and one line are enough; every other key has the value that is documented."""
    minimal = load(write(tmp_path, MINIMAL), {})
    assert minimal == load(write(tmp_path, DOCUMENTED), {})
    assert minimal.recovery.server == []
    assert minimal.recovery.snapshot is None
    assert minimal.publish.zmq is None
    assert minimal.publisher_id == 2


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"233.54.12.111"', '"10.0.0.1"', 'line[0].group: "10.0.0.1" is not an IPv4 multicast address'),
        ('"233.54.12.111"', '"ff02::1"', 'line[0].group: "ff02::1" is not an IPv4 multicast address'),
        ('"233.54.12.111"', "7", "line[0].group: 7 is not a string"),
        ("port = 26477", "port = 0", "line[0].port: 0 is not a port (1 to 65535)"),
        ("port = 26477", "port = 65536", "line[0].port: 65536 is not a port (1 to 65535)"),
        ("port = 26477", 'port = "26477"', 'line[0].port: "26477" is not an integer'),
        ("port = 26477", "port = true", "line[0].port: true is not an integer"),
        ("port = 26477\n", "", "line[0].port: is missing; it is required"),
        ('name = "xnas-itch"\n', "", "channel.name: is missing; it is required"),
        (
            '"xnas-itch"',
            '"../x"',
            'channel.name: "../x" is not a channel name (1 to 63 of letters, digits, _ . -, ',
        ),
        (
            'name = "A"',
            'name = "A/B"',
            'line[0].name: "A/B" is not a line name (1 to 15 of letters, digits, _ . -, ',
        ),
        (
            "cpu = -1",
            "cpus = 1",
            f"receive.cpus: is not a known key; known here: {RECEIVE_KEYS}",
        ),
        ("spin = true", "spin = 1", "receive.spin: 1 is not true or false"),
        ("line_down_s = 3.0", "line_down_s = nan", "receive.line_down_s: NaN is not a finite number"),
        ("line_down_s = 3.0", "line_down_s = 0", "receive.line_down_s: 0 is not more than 0.0"),
        (
            '"socket"',
            '"tcp"',
            'receive.mode: "tcp" is not one of "socket", "packet", "onload", "xdp", "dpdk"',
        ),
        ('"live"', '"now"', 'channel.start: "now" is not one of "live", "beginning"'),
        (
            'session = ""',
            'session = "12345678901"',
            'channel.session: "12345678901" is not a MoldUDP64 session',
        ),
        (
            'trading_day = ""',
            'trading_day = "2026-02-30"',
            'channel.trading_day: "2026-02-30" is not a date (YYYY-',
        ),
        (
            'source = ""',
            'source = "233.1.1.1"',
            'line[0].source: "233.1.1.1" is not the IPv4 address of a sender',
        ),
        (
            '"127.0.0.1"',
            '"127.0.0.300"',
            'line[0].interface: "127.0.0.300" is not an IPv4 address or a device name',
        ),
        (
            SCHEMAS,
            'schemas = ["mbp-2"]',
            'publish.schemas[0]: "mbp-2" is not one of "mbo", "mbp-1", "mbp-10", ',
        ),
        (SCHEMAS, 'schemas = ["mbo", "mbo"]', 'publish.schemas: ["mbo", "mbo"] has "mbo" twice'),
        (
            "symbols = []",
            'symbols = ["A B"]',
            'publish.symbols[0]: "A B" is not a symbol (1 to 8 ASCII characters',
        ),
        ("ring_mib = 64", "ring_mib = 100", "publish.ring_mib: 100 is not a power of two"),
        ("depth = 10", "depth = 11", "publish.depth: 11 is more than 10"),
        (
            '"127.0.0.1:9464"',
            '"9464"',
            'metrics.listen: "9464" is not an IPv4 address and port (as in "127.0.0.1:',
        ),
        (
            "[metrics]",
            "[metric]",
            f"metric: is not a known key; known here: {', '.join(Config.model_fields)}",
        ),
        ("[receive]", "[[receive]]", 'receive: [{"mode": "socket"'),
        ("[[line]]", "[line]", 'line: {"name": "A"'),
    ],
)
def test_wrong_value_is_named_with_its_key(tmp_path: Path, old: str, new: str, message: str) -> None:
    """Each fault gives one line: file, key, value, what is allowed."""
    assert old in DOCUMENTED
    assert error_of(tmp_path, DOCUMENTED.replace(old, new, 1)).startswith(f"feed.toml: {message}")


@pytest.mark.parametrize(
    ("addition", "message"),
    [
        (
            '[[line]]\nname = "A"\ngroup = "233.54.12.112"\nport = 1\n',
            'line[1].name: "A" is the name of line[0] already',
        ),
        (
            "[receive.xdp]\nframes = 1000\n",
            "receive.xdp.frames: 1000 is not a power of two",
        ),
        ("[receive.xdp]\nframes = 32\n", "receive.xdp.frames: 32 is less than 64"),
        ("[receive.xdp]\nqueues = [1, 1]\n", 'receive.xdp.queues: [1, 1] has "1" twice'),
        (
            '[[line]]\nname = "B"\ngroup = "10.0.0.1"\nport = 1\n',
            'line[1].group: "10.0.0.1" is not an IPv4 multicast address',
        ),
        (
            '[[recovery.server]]\naddress = "localhost"\n',
            'recovery.server[0].address: "localhost" is not an IPv4 address and port '
            '(as in "127.0.0.1:26500")',
        ),
        (
            '[publish.zmq]\nendpoint = "udp://x:1"\n',
            'publish.zmq.endpoint: "udp://x:1" is not a ZeroMQ endpoint '
            '(as in "tcp://127.0.0.1:26700" or "ipc:///run/feed.ipc")',
        ),
    ],
)
def test_wrong_entry_is_named_with_its_index(tmp_path: Path, addition: str, message: str) -> None:
    """Entries of lists are named by their index from 0."""
    assert error_of(tmp_path, DOCUMENTED + addition) == f"feed.toml: {message}"


@pytest.mark.parametrize(
    ("receive", "message"),
    [
        ("spin = false", 'receive.spin: false does not go with receive.mode "dpdk": it can only poll'),
        ("", 'receive.dpdk.ports: is empty; receive.mode "dpdk" needs one for each device'),
        ("dpdk.ports = 1", "receive.dpdk.ports: 1 is not a table"),
        (
            'dpdk.ports = { eth0 = "eth0" }',
            'receive.dpdk.ports.eth0: "eth0" is not a PCI address (as in "0000:3b:00.0") or a virtual '
            'device of DPDK (as in "net_af_packet0,iface=eth0")',
        ),
        ("dpdk.rx_descriptors = 1", "receive.dpdk.rx_descriptors: 1 is less than 32"),
        (
            'dpdk.eal = ["-n", "2", "--help"]',
            'receive.dpdk.eal[2]: "--help" is not for a daemon: DPDK prints its help and ends the process',
        ),
    ],
)
def test_what_dpdk_needs_and_has_not_is_named(tmp_path: Path, receive: str, message: str) -> None:
    """It has nothing to sleep on, and cannot guess its ports."""
    text = MINIMAL + f'[receive]\nmode = "dpdk"\n{receive}\n'
    assert error_of(tmp_path, text) == f"feed.toml: {message}"


def test_line_that_is_another_one_is_refused(tmp_path: Path) -> None:
    """Twice the packets and not one loss less; on another interface, or of another source, it is a line."""
    same = '[[line]]\nname = "B"\ngroup = "239.1.1.1"\nport = 26477\n'
    text = '[channel]\nname = "x"\n' + same.replace("B", "A") + same
    message = 'line[1].group: "239.1.1.1", port 26477 on "127.0.0.1" is line[0] already: each packet'
    assert message in error_of(tmp_path, text)
    for other in ('interface = "127.0.0.2"\n', 'source = "10.0.0.1"\n'):
        assert len(load(write(tmp_path, text + other), {}).line) == 2


def test_endpoints_of_zeromq_differ(tmp_path: Path) -> None:
    """The second could not listen there."""
    text = MINIMAL + '[publish.zmq]\nsnapshot_endpoint = "tcp://127.0.0.1:26700"\n'
    message = 'publish.zmq.snapshot_endpoint: "tcp://127.0.0.1:26700" is publish.zmq.endpoint already'
    assert message in error_of(tmp_path, text)


def test_ports_of_dpdk_come_from_the_file_or_a_variable(tmp_path: Path) -> None:
    """The variable replaces all of them."""
    path = write(tmp_path, MINIMAL + '[receive]\nmode = "dpdk"\ndpdk.ports = { eth2 = "0000:3b:00.0" }\n')
    assert load(path, {}).receive.dpdk.ports == {"eth2": "0000:3b:00.0"}
    override = {"FEEDHANDLER__RECEIVE__DPDK__PORTS": '{ "eth 3" = "net_null0" }'}
    assert load(path, override).receive.dpdk.ports == {"eth 3": "net_null0"}


def test_table_that_is_named_alone_has_the_documented_values(tmp_path: Path) -> None:
    """`[publish.zmq]` and `[[recovery.server]]` without keys stand for the values of the documentation."""
    config = load(write(tmp_path, MINIMAL + "[[recovery.server]]\n[publish.zmq]\n"), {})
    assert config.recovery.server[0].address == "127.0.0.1:26500"
    assert config.publish.zmq is not None
    assert config.publish.zmq.endpoint == "tcp://127.0.0.1:26700"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[channel\n", "is not TOML: "),
        (b"a = " + b"[" * 5000, "is not TOML: "),
        (b'name = "\xff"', "is not UTF-8 text (byte 8)"),
        (b"", "channel: is missing; it is required"),
    ],
)
def test_file_that_is_not_toml_is_one_line(tmp_path: Path, content: bytes, message: str) -> None:
    """Text that no parser takes gives one line, never a traceback."""
    (tmp_path / "feed.toml").write_bytes(content)
    with pytest.raises(UsageError) as caught:
        load(tmp_path / "feed.toml", {})
    assert str(caught.value).startswith(f"{tmp_path}/feed.toml: {message}")
    assert "\n" not in str(caught.value)


def test_file_that_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    """A missing file and a folder are named with the system's reason."""
    with pytest.raises(UsageError, match=r"nowhere.toml: cannot be read: no such file"):
        load(tmp_path / "nowhere.toml", {})
    with pytest.raises(UsageError, match=r"cannot be read: is a directory"):
        load(tmp_path, {})


def test_several_faults_are_all_reported_in_the_order_of_the_keys(tmp_path: Path) -> None:
    """`problems` gives every fault, `load` raises the first of them."""
    text = (
        DOCUMENTED.replace("port = 26477", "port = 0")
        .replace("spin = true", "spin = 1")
        .replace("retries", "retry")
    )
    found = [str(p).removeprefix(f"{tmp_path}/feed.toml: ") for p in problems(write(tmp_path, text), {})]
    assert found == [
        "line[0].port: 0 is not a port (1 to 65535)",
        "receive.spin: 1 is not true or false",
        "recovery.retry: is not a known key; known here: arbitration_ms, timeout_ms, retries, "
        "max_outstanding, requests_per_s, hold_messages, server, snapshot",
    ]
    assert error_of(tmp_path, text) == f"feed.toml: {found[0]}"


def test_environment_overrides_keys(tmp_path: Path) -> None:
    """Variables override plain keys, entries of lists and missing tables; text needs no quotes."""
    config = load(
        write(tmp_path, MINIMAL),
        {
            "FEEDHANDLER__RECEIVE__CPU": "1",
            "FEEDHANDLER__RECEIVE__SPIN": "false",
            "FEEDHANDLER__RECEIVE__MODE": "socket",
            "FEEDHANDLER__CHANNEL__NAME": "7",
            "FEEDHANDLER__LINE__0__INTERFACE": "eth1",
            "FEEDHANDLER__LINE__1__NAME": "B",
            "FEEDHANDLER__LINE__1__GROUP": "233.54.12.112",
            "FEEDHANDLER__LINE__1__PORT": "26478",
            "FEEDHANDLER__RECOVERY__SERVER__0__ADDRESS": "127.0.0.1:26500",
            "FEEDHANDLER__PUBLISH__ZMQ__ENDPOINT": "ipc:///tmp/x",
            "FEEDHANDLER__PUBLISH__SYMBOLS": '["AAPL", "MSFT"]',
            "FEEDHANDLER_RUNTIME_DIR": "/not/a/key",
            "PATH": "/bin",
        },
    )
    assert (config.receive.cpu, config.receive.spin, config.channel.name) == (1, False, "7")
    lines = [(line.name, line.port, line.interface) for line in config.line]
    assert lines == [("A", 26477, "eth1"), ("B", 26478, "127.0.0.1")]
    assert config.recovery.server[0].host_port == ("127.0.0.1", 26500)
    assert config.publish.zmq is not None
    assert config.publish.symbols == ["AAPL", "MSFT"]


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("RECEIVE__CPU", "x", 'receive.cpu: "x" is not an integer'),
        ("RECEIVE__CPU", "", 'receive.cpu: "" is not an integer'),
        ("RECEIVE__CPU", "1\nother = 2", 'receive.cpu: "1\\nother = 2" is not an integer'),
        ("RECEIVE__CPUS", "1", f"names no key; known here: {RECEIVE_KEYS}"),
        ("RECEIVE__CPU__X", "1", "names no key; cpu has no keys of its own"),
        ("LINE__X__PORT", "1", '"x" is not an index of line (0 to 1)'),
        ("LINE__2__PORT", "1", '"2" is not an index of line (0 to 1)'),
        (
            "LINE__0",
            "1",
            "names a whole entry of line; name one of its keys: name, group, port, interface, source",
        ),
        ("LINE__0__PORT", "0", "line[0].port: 0 is not a port (1 to 65535)"),
        (
            "PUBLISH__SYMBOLS",
            '["AAPL", ""]',
            'publish.symbols[1]: "" is not a symbol (1 to 8 ASCII characters without spaces)',
        ),
    ],
)
def test_wrong_override_names_the_variable(tmp_path: Path, variable: str, value: str, message: str) -> None:
    """A fault that an environment variable brought is reported under the variable's name."""
    assert (
        error_of(tmp_path, MINIMAL, {f"FEEDHANDLER__{variable}": value})
        == f"FEEDHANDLER__{variable}: {message}"
    )


def test_command_line_reports_a_broken_file_by_one_line_and_status_2(tmp_path: Path) -> None:
    """`feedhandler run` with a broken file prints exactly the line of the fault and exits with 2."""
    write(tmp_path, MINIMAL + '[[line]]\nname = "B"\ngroup = "10.0.0.1"\nport = 1\n')
    done = subprocess.run(
        [sys.executable, "-c", "from feedhandler.cli import main; main()", "run", "--config", "feed.toml"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    line = 'feed.toml: line[1].group: "10.0.0.1" is not an IPv4 multicast address\n'
    assert (done.returncode, done.stdout, done.stderr) == (2, "", line)


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=12)
    | st.dates()
    | st.datetimes(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
SPOTS = [line for line in DOCUMENTED.splitlines() if " = " in line]


def to_toml(value: object) -> str:
    """Write a value as TOML, naively."""
    if value is None:
        return '""'
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, str):
        return '"' + "".join(c if c.isalnum() and c.isascii() else f"\\U{ord(c):08x}" for c in value) + '"'
    if isinstance(value, list):
        return "[" + ", ".join(map(to_toml, value)) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{to_toml(k)} = {to_toml(v)}" for k, v in value.items()) + "}"
    return value.isoformat()  # type: ignore[attr-defined]


def assert_taken_or_refused_by_one_line(path: Path, environ: dict[str, str]) -> None:
    """Fail on anything but a configuration or one line."""
    try:
        load(path, environ)
    except UsageError as error:
        assert len(str(error).splitlines()) == 1  # noqa: PT017


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(spot=st.sampled_from(SPOTS), value=VALUES)
def test_any_value_at_any_key_is_taken_or_refused_by_one_line(
    tmp_path: Path, spot: str, value: object
) -> None:
    """Whatever stands at a key, the file is taken or one line names the fault; never a traceback."""
    text = DOCUMENTED.replace(spot, f"{spot.split(' = ')[0]} = {to_toml(value)}", 1)
    assert_taken_or_refused_by_one_line(write(tmp_path, text), {})


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
def test_any_bytes_are_refused_by_one_line(tmp_path: Path, content: bytes) -> None:
    """Whatever short bytes lie in the file, there is one line and never a traceback."""
    path = tmp_path / "feed.toml"
    path.write_bytes(content)
    with pytest.raises(UsageError) as caught:
        load(path, {})
    assert len(str(caught.value).splitlines()) == 1


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    parts=st.lists(
        st.sampled_from(["LINE", "0", "1", "CHANNEL", "NAME", "RECOVERY", "SERVER", "", "CPU"]), min_size=1
    ),
    value=st.text(max_size=10),
)
def test_any_override_is_taken_or_refused_by_one_line(tmp_path: Path, parts: list[str], value: str) -> None:
    """Whatever variable is set to whatever text, there is a configuration or one line."""
    assert_taken_or_refused_by_one_line(write(tmp_path, MINIMAL), {"FEEDHANDLER__" + "__".join(parts): value})
