"""The re-request server's unit under the real systemd: ready when it answers, killed, hung, stopped."""

import json
from collections.abc import Iterator

import pytest

from tests.support.wait import wait_for
from tests.systemd.conftest import Machine

UNIT = "gapfill@rewind.service"
CONFIG = """\
[gapfill]
listen = "127.0.0.1:26500"
source = "lines"
store = "day.store"
store_mib = 2
[[line]]
name = "A"
group = "239.195.8.1"
port = 26477
"""
SEND = """
import socket, struct
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("127.0.0.1"))
for n in range(1, 101):
    sock.sendto(struct.pack(">10sQHHQ", b"SESSION01 ", n, 1, 8, n), ("239.195.8.1", 26477))
"""
ASK = """
import socket, struct
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.settimeout(0.5)
sock.sendto(struct.pack(">10sQH", b"SESSION01 ", 1, 200), ("127.0.0.1", 26500))
try:
    print(struct.unpack_from(">10sQH", sock.recv(2000))[2])
except TimeoutError:
    print(0)
"""


@pytest.fixture
def unit(machine: Machine) -> Iterator[str]:
    """Start it; stopped and forgotten afterwards."""
    machine.write("/etc/feedhandler/rewind.toml", CONFIG)
    machine.run("systemctl", "start", UNIT)
    yield UNIT
    machine.run("systemctl", "stop", UNIT)
    machine.run("systemctl", "reset-failed", UNIT, check=False)


def ask(machine: Machine) -> int:
    """How many messages the reply to one request for the first 200 brings."""
    return int(machine.python("-c", ASK))


def test_server_is_ready_answers_and_goes_on_after_a_kill(machine: Machine, unit: str) -> None:
    """`start` returns once it answers; kill -9: restarted within moments, with what it had stored."""
    assert machine.show(unit, "ActiveState") == "active"
    machine.python("-c", SEND)
    wait_for(lambda: ask(machine) == 100, "messages", interval_s=0.2)
    wait_for(lambda: "SESSION01  to 100" in machine.show(unit, "StatusText"), "status", interval_s=0.2)
    before = machine.show(unit, "MainPID")
    machine.run("kill", "-9", before)
    wait_for(lambda: machine.show(unit, "NRestarts") == "1", "restart", interval_s=0.1)
    wait_for(lambda: machine.show(unit, "ActiveState") == "active", "restart", interval_s=0.1)
    assert machine.show(unit, "MainPID") != before
    assert ask(machine) == 100


def test_hung_server_is_found_by_the_watchdog(machine: Machine, unit: str) -> None:
    """Stopped in its tracks it feeds no watchdog: killed and started again."""
    machine.run("kill", "-STOP", machine.show(unit, "MainPID"))
    wait_for(lambda: machine.show(unit, "NRestarts") == "1", "restart by the watchdog", interval_s=0.2)
    wait_for(lambda: machine.show(unit, "ActiveState") == "active", "restart", interval_s=0.2)


def test_clean_stop_is_quick_and_a_wrong_file_is_not_tried_again(machine: Machine, unit: str) -> None:
    """Stop: success, counters in the journal. A wrong key: exit status 2, no restart."""
    machine.run("systemctl", "stop", unit)
    assert (machine.show(unit, "Result"), machine.show(unit, "ExecMainStatus")) == ("success", "0")
    log = machine.run("journalctl", "-u", unit, "-o", "cat").splitlines()
    last = [json.loads(line) for line in log if line.startswith("{")][-1]
    assert last["event"] == "stopped"
    machine.write("/etc/feedhandler/rewind.toml", CONFIG.replace(":26500", ":0"))
    machine.run("systemctl", "start", unit, check=False)
    assert (machine.show(unit, "ExecMainStatus"), machine.show(unit, "NRestarts")) == ("2", "0")
    found = machine.run("journalctl", "-u", unit, "-o", "cat")
    assert 'rewind.toml: gapfill.listen: "127.0.0.1:0" is not an IPv4 address and port' in found
