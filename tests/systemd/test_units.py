"""The units under the real systemd: ready, crash, hang, clean stop, instances, rights."""

import json
import re
import time
from collections.abc import Iterator

import pytest

from feedhandler.daemon._clock import read_timex
from tests.support.capabilities import mask
from tests.support.wait import wait_for
from tests.systemd.conftest import ROOT, Machine

CONFIG = """\
[channel]
name = "overridden-by-the-unit"
[[line]]
name = "A"
group = "239.195.7.1"
port = {port}
[receive]
spin = false
[metrics]
listen = ""
[publish]
ring_mib = 1
schemas = ["mbo"]
"""
SEND = """
import sys
from tests.support.exchange import Exchange, Line, simulated_messages
port, first, count = map(int, sys.argv[1:])
exchange = Exchange(simulated_messages(20000), [Line("A", "239.195.7.1", port)])
exchange.next = first
exchange.send(count)
exchange.close()
"""
JOIN = """
from feedhandler.publish import ZmqSubscriber
images = "ipc:///run/feedhandler/all/images"
with ZmqSubscriber("tcp://127.0.0.1:26701", "all", snapshot_endpoint=images) as subscriber:
    subscriber.join(timeout_s=20)
    print(subscriber.state.name)
"""
SCRAPE = """
import urllib.request
print(urllib.request.urlopen("http://127.0.0.1:9465/metrics").read().decode())
"""


@pytest.fixture
def unit(machine: Machine) -> Iterator[str]:
    """Start one instance; stopped and forgotten afterwards."""
    name = "feedhandler@one.service"
    machine.write("/etc/feedhandler/one.toml", CONFIG.format(port=26477))
    machine.run("systemctl", "start", name)
    yield name
    machine.run("systemctl", "stop", name)
    machine.run("systemctl", "reset-failed", name, check=False)


def send(machine: Machine, first: int, count: int, port: int = 26477) -> None:
    """Send messages on the line from within the machine."""
    machine.run(
        "sh",
        "-c",
        f"cd / && /opt/feedhandler/bin/python - {port} {first} {count}",
        text=SEND,
    )


def stat(machine: Machine, channel: str = "one") -> dict:
    """Return the channel's counters as a member of the consumers' group sees them."""
    return json.loads(as_consumer(machine, "stat", channel, "--json"))


def as_consumer(
    machine: Machine, *words: str, group: str = "feedhandler-consumers", check: bool = True
) -> str:
    """Run a command as a user who is nobody but a member of the group."""
    return machine.run(
        *(
            "setpriv",
            "--reuid=65534",
            "--regid=65534",
            f"--groups={machine.run('getent', 'group', group).split(':')[2]}",
        ),
        *("--inh-caps=-all", "--bounding-set=-all", "env", "FEEDHANDLER_RUNTIME_DIR=/run/feedhandler"),
        *("/opt/feedhandler/bin/feedhandler", *words),
        check=check,
    )


def test_start_returns_when_the_lines_are_joined(machine: Machine, unit: str) -> None:
    """`systemctl start` waits for READY, and by then the group is joined: nothing sent after is missed."""
    assert machine.show(unit, "ActiveState") == "active"
    send(machine, 1, 500)
    wait_for(lambda: stat(machine)["messages"] == 500, "500 messages", interval_s=0.2)
    wait_for(
        lambda: machine.show(unit, "StatusText").startswith("LIVE"),
        "the state in the status line",
        interval_s=0.1,
    )


def test_consumers_need_the_group_and_nothing_else(machine: Machine, unit: str) -> None:
    """A member of the group reads the channel; anybody else cannot; nobody but the daemon can write."""
    assert stat(machine)["state"] == "STARTING"
    as_consumer(machine, "stat", "one", group="nogroup", check=False)
    modes = machine.run("stat", "-c", "%a %U %G", "/run/feedhandler/one", "/run/feedhandler/one/ring").split(
        "\n"
    )
    assert modes[:2] == ["750 feedhandler feedhandler-consumers", "640 feedhandler feedhandler-consumers"]
    refused = machine.run(
        "setpriv",
        "--reuid=65534",
        "--regid=65534",
        "--clear-groups",
        "ls",
        "/run/feedhandler/one",
        check=False,
    )
    assert refused == ""


def test_daemon_starts_with_two_capabilities_and_gets_what_they_are_for(machine: Machine, unit: str) -> None:
    """NET_ADMIN and IPC_LOCK, no other: the buffer is forced, the memory locked; then it gives them up."""
    pid = machine.show(unit, "MainPID")
    status = machine.run("cat", f"/proc/{pid}/status")
    assert int(re.search(r"CapBnd:\s+(\w+)", status)[1], 16) == mask(["net_admin", "ipc_lock"])
    assert int(re.search(r"VmLck:\s+(\d+)", status)[1]) > 0
    entries = journal(machine, unit)
    assert [entry["buffer_forced"] for entry in entries if entry["event"] == "joined"] == [True]
    assert [entry["memory_locked"] for entry in entries if entry["event"] == "started"] == [True]
    assert [entry for entry in entries if entry["event"] == "capabilities kept"] == []
    for sets in capabilities_of_threads(machine, pid):
        assert (sets["Prm"], sets["Eff"]) == (kept(machine, pid),) * 2


def capabilities_of_threads(machine: Machine, pid: str) -> list[dict[str, int]]:
    """Return the capability sets (Prm, Eff, Bnd...) of each thread of a process."""
    text = machine.run("sh", "-c", f"cat /proc/{pid}/task/*/status || true")  # a thread may have ended
    threads = [re.findall(r"Cap(\w+):\s+(\w+)", one) for one in text.split("Name:")[1:]]
    return [{kind: int(value, 16) for kind, value in sets} for sets in threads]


def kept(machine: Machine, pid: str) -> int:
    """Return what a daemon may keep: IPC_LOCK, where memory that is locked has a limit."""
    limits = machine.run("cat", f"/proc/{pid}/limits")
    return 0 if re.search(r"Max locked memory\s+unlimited", limits) else mask(["ipc_lock"])


def test_daemon_may_ask_the_kernel_how_good_the_clock_is(machine: Machine, unit: str) -> None:
    """A sandbox that forbids it would leave no time trusted; to set the clock stays forbidden."""
    [entry] = [entry for entry in journal(machine, unit) if entry["event"] == "clock"]
    assert entry["system"] != "unreadable"
    timex = read_timex()
    assert timex is not None
    assert (entry["system"] == "unsynchronised") == (timex.state == 5)
    assert "cap_sys_time" not in machine.show(unit, "CapabilityBoundingSet")


def test_drop_in_for_the_cards_clock_lets_the_daemon_read_no_other_device(
    machine: Machine, unit: str
) -> None:
    """It starts, as hardened as before but for that; no clock is here that it could open."""
    folder = f"/etc/systemd/system/{unit}.d"
    machine.write(f"{folder}/hardware-clock.conf", (ROOT / "systemd" / "hardware-clock.conf").read_text())
    try:
        machine.run("systemctl", "daemon-reload")
        machine.run("systemctl", "restart", unit)
        assert machine.show(unit, "ActiveState") == "active"
        assert machine.show(unit, "DevicePolicy") == "closed"
        assert machine.show(unit, "DeviceAllow") == "char-ptp r"
        assert machine.show(unit, "PrivateDevices") == "no"
        rating = machine.run("systemd-analyze", "security", "--no-pager", unit).strip().splitlines()[-1]
        assert float(re.search(r": ([0-9.]+) ", rating)[1]) <= 2.5, rating
    finally:
        machine.run("rm", "-r", folder)
        machine.run("systemctl", "daemon-reload")


def journal(machine: Machine, unit: str) -> list[dict]:
    """Return what the unit's present run has logged."""
    invocation = machine.show(unit, "InvocationID")
    lines = machine.run("journalctl", "-o", "cat", f"_SYSTEMD_INVOCATION_ID={invocation}").splitlines()
    return [json.loads(line) for line in lines if line.startswith("{")]


def test_killed_daemon_is_restarted_and_the_dead_channel_stays_readable(machine: Machine, unit: str) -> None:
    """kill -9: back within a second, with a new epoch, and at no time is there no channel to be found."""
    before = machine.show(unit, "MainPID")
    machine.run("systemctl", "kill", "-s", "KILL", unit)
    wait_for(lambda: machine.show(unit, "NRestarts") == "1", "a restart", interval_s=0.05)
    wait_for(lambda: machine.show(unit, "ActiveState") == "active", "ready again", interval_s=0.05)
    assert machine.show(unit, "MainPID") != before
    send(machine, 1, 100)
    wait_for(lambda: stat(machine)["messages"] == 100, "messages in the new run", interval_s=0.2)


def test_hung_process_is_found_by_the_watchdog(machine: Machine, unit: str) -> None:
    """A stopped process feeds no watchdog: killed and restarted."""
    pid = machine.show(unit, "MainPID")
    machine.run("kill", "-STOP", pid)
    wait_for(
        lambda: machine.show(unit, "NRestarts") == "1",
        "a restart by the watchdog",
        timeout_s=20,
        interval_s=0.2,
    )
    wait_for(lambda: machine.show(unit, "ActiveState") == "active", "ready again", interval_s=0.1)
    assert "Watchdog timeout" in machine.run("journalctl", "-u", unit, "-o", "cat")


def test_hung_receive_thread_starves_the_watchdog_though_the_process_lives(
    machine: Machine, unit: str
) -> None:
    """Only the receive thread is frozen (ptrace); the main thread runs on, but must not vouch for it."""
    machine.python("/opt/feedhandler-0/tests/support/freeze.py", machine.show(unit, "MainPID"))
    wait_for(
        lambda: machine.show(unit, "NRestarts") == "1",
        "a restart by the watchdog",
        timeout_s=20,
        interval_s=0.2,
    )
    wait_for(lambda: machine.show(unit, "ActiveState") == "active", "ready again", interval_s=0.1)
    assert "Watchdog timeout" in machine.run("journalctl", "-u", unit, "-o", "cat")


def test_clean_stop_is_quick_and_leaves_no_runtime_folder(machine: Machine, unit: str) -> None:
    """SIGTERM, status 0, within a second; the channel's folder goes, the others' parent stays."""
    started = time.monotonic()
    machine.run("systemctl", "stop", unit)
    assert time.monotonic() - started < 3
    assert (machine.show(unit, "Result"), machine.show(unit, "ExecMainStatus")) == ("success", "0")
    assert machine.run("ls", "/run/feedhandler") == ""


@pytest.mark.parametrize(
    ("config", "line"),
    [
        (
            CONFIG.format(port=0),
            "/etc/feedhandler/wrong.toml: line[0].port: 0 is not a port (1 to 65535)",
        ),
        (
            CONFIG.format(port=26477).replace("[receive]", 'interface = "eth77"\n[receive]'),
            '/etc/feedhandler/wrong.toml: line[0].interface: "eth77" is no device or address of this machine',
        ),
    ],
)
def test_wrong_configuration_is_not_tried_again(machine: Machine, config: str, line: str) -> None:
    """Exit status 2 is final: no restart, and the journal has the line that names the key."""
    name = "feedhandler@wrong.service"
    machine.write("/etc/feedhandler/wrong.toml", config)
    machine.run("systemctl", "start", name, check=False)
    assert machine.show(name, "ExecMainStatus") == "2"
    assert (machine.show(name, "ActiveState"), machine.show(name, "NRestarts")) == ("failed", "0")
    assert line in machine.run("journalctl", "-u", name, "-o", "cat")
    machine.run("systemctl", "reset-failed", name)


def test_helpers_do_their_work_within_the_sandbox(machine: Machine) -> None:
    """Journal, metrics, ZeroMQ by device and by file: libzmq asks netlink for the devices first.

    A member of the group may connect to the file, and needs nothing else.
    """
    name, config = "feedhandler@all.service", CONFIG.format(port=26479)
    config = config.replace('listen = ""', 'listen = "127.0.0.1:9465"')
    config += '[publish.zmq]\nendpoint = "tcp://lo:26701"\n'
    config += 'snapshot_endpoint = "ipc:///run/feedhandler/all/images"\n'
    config += '[journal]\ndirectory = "/var/lib/feedhandler/all"\nsegment_mib = 1\n'
    machine.write("/etc/feedhandler/all.toml", config)
    machine.run("systemctl", "start", name)
    try:
        send(machine, 1, 100, port=26479)
        wait_for(
            lambda: stat(machine, "all")["journal"].get("packets", 0) >= 10, "the journal", interval_s=0.2
        )
        group = machine.run("getent", "group", "feedhandler-consumers").split(":")[2]
        member = ("setpriv", "--reuid=65534", "--regid=65534", f"--groups={group}", "--bounding-set=-all")
        joined = machine.run(*member, "/opt/feedhandler/bin/python", "-", text=JOIN)
        assert joined.strip() == "LIVE"
        scraped = wait_for(
            lambda: machine.run("/opt/feedhandler/bin/python", "-", text=SCRAPE, check=False),
            "the metrics",
            interval_s=0.2,
        )
        assert 'feedhandler_messages_total{channel="all"} 100.0' in scraped
        assert "helper died" not in machine.run("journalctl", "-u", name, "-o", "cat")
    finally:
        machine.run("systemctl", "stop", name)
        machine.run("systemctl", "reset-failed", name, check=False)


def test_two_instances_live_side_by_side(machine: Machine, unit: str) -> None:
    """Stopping one removes its folder only; the other goes on receiving."""
    other = "feedhandler@two.service"
    machine.write("/etc/feedhandler/two.toml", CONFIG.format(port=26478))
    machine.run("systemctl", "start", other)
    send(machine, 1, 100, port=26478)
    wait_for(lambda: stat(machine, "two")["messages"] == 100, "messages on the second", interval_s=0.2)
    assert stat(machine, "one")["messages"] == 0
    machine.run("systemctl", "stop", other)
    assert machine.run("ls", "/run/feedhandler").split() == ["one"]
    send(machine, 1, 100)
    wait_for(lambda: stat(machine)["messages"] == 100, "messages on the first", interval_s=0.2)


def test_credentials_reach_the_daemons_user_only(machine: Machine, unit: str) -> None:
    """A secret given by LoadCredential is a file that the daemon can read and nobody else."""
    machine.write("/etc/feedhandler/secret", "hush")
    machine.write(
        f"/etc/systemd/system/{unit}.d/secret.conf",
        "[Service]\nLoadCredential=glimpse:/etc/feedhandler/secret\n",
    )
    try:
        machine.run("systemctl", "daemon-reload")
        machine.run("systemctl", "restart", unit)
        root = f"/proc/{machine.show(unit, 'MainPID')}/root/run/credentials/{unit}/glimpse"
        assert machine.run("cat", root) == "hush"
        mode = machine.run("stat", "-c", "%a", root).strip()
        assert mode in ("400", "440")
    finally:
        machine.run("rm", "-r", f"/etc/systemd/system/{unit}.d")
        machine.run("systemctl", "daemon-reload")


@pytest.mark.parametrize(("name", "worst"), [("feedhandler@one.service", 2.0), ("gapfill@one.service", 2.0)])
def test_units_are_hardened(machine: Machine, name: str, worst: float) -> None:
    """`systemd-analyze security` rates the exposure as OK."""
    rating = machine.run("systemd-analyze", "security", "--no-pager", name).strip().splitlines()[-1]
    assert float(re.search(r": ([0-9.]+) ", rating)[1]) <= worst, rating


def test_units_have_no_unknown_settings(machine: Machine) -> None:
    """A misspelt key is ignored by systemd with a warning; there is none."""
    found = machine.run(
        "sh",
        "-c",
        "systemd-analyze verify --man=no feedhandler@one.service gapfill@one.service 2>&1",
        check=False,
    )
    assert [line for line in found.splitlines() if "feedhandler" in line or "gapfill" in line] == []
