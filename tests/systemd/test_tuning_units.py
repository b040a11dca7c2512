"""The drop-ins for tuning under the real systemd: enough for what they are for, and harmless."""

import re
from collections.abc import Iterator

import pytest

from tests.systemd.conftest import ROOT, Machine
from tests.systemd.test_units import CONFIG, journal

NAME = "feedhandler@tuned.service"
FOLDER = f"/etc/systemd/system/{NAME}.d"


@pytest.fixture
def tuned(machine: Machine) -> Iterator[Machine]:
    """A machine without this instance before and afterwards."""
    yield machine
    machine.run("systemctl", "stop", NAME, check=False)
    machine.run("systemctl", "reset-failed", NAME, check=False)
    machine.run("rm", "-rf", FOLDER)
    machine.run("systemctl", "daemon-reload")


def start(machine: Machine, settings: str, drop_in: str) -> str:
    """Start it with these settings of [receive] and this drop-in, or none; return its state."""
    text = CONFIG.format(port=26483).replace("spin = false", f"spin = false\n{settings}")
    machine.write("/etc/feedhandler/tuned.toml", text)
    if drop_in:
        machine.write(f"{FOLDER}/{drop_in}", (ROOT / "systemd" / drop_in).read_text())
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "start", NAME, check=False)
    return machine.show(NAME, "ActiveState")


def test_unit_as_delivered_grants_no_priority_and_says_so(tuned: Machine) -> None:
    """It keeps real-time scheduling from the daemon: the log names the key."""
    assert start(tuned, "priority = 1", "") != "active"
    assert "receive.priority: 1 is not granted" in tuned.run("journalctl", "-u", NAME, "-o", "cat")


def test_drop_in_for_priority_is_enough(tuned: Machine) -> None:
    """The receive thread has it, nothing else has; the unit is still rated as OK."""
    state = start(tuned, "priority = 1\nprefault_orders = 1000", "realtime.conf")
    assert state == "active", tuned.run("journalctl", "-u", NAME, "-o", "cat")
    pid = tuned.show(NAME, "MainPID")
    rows = tuned.run("ps", "-L", "-o", "comm=,cls=,rtprio=", "-p", pid).splitlines()
    classes = {tuple(row.split()) for row in rows}
    assert ("fh-receive", "FF", "1") in classes
    assert {row[1] for row in classes if row[0] != "fh-receive"} == {"TS"}
    assert [entry["priority"] for entry in journal(tuned, NAME) if entry["event"] == "started"] == [1]
    rating = tuned.run("systemd-analyze", "security", "--no-pager", NAME).strip().splitlines()[-1]
    assert float(re.search(r": ([0-9.]+) ", rating)[1]) <= 2.5, rating


def test_drop_in_for_idle_states_lets_the_daemon_open_that_device_only(tuned: Machine) -> None:
    """What the udev rule does to the device is done here by hand; without the drop-in it is not there."""
    assert start(tuned, "idle_latency_us = 1999999", "") != "active"
    assert "/dev/cpu_dma_latency: No such file" in tuned.run("journalctl", "-u", NAME, "-o", "cat")
    tuned.run("systemctl", "stop", NAME)
    tuned.run("systemctl", "reset-failed", NAME, check=False)
    tuned.run("sh", "-c", "test -c /dev/cpu_dma_latency || mknod /dev/cpu_dma_latency c 10 259")
    tuned.run("chgrp", "feedhandler-consumers", "/dev/cpu_dma_latency")
    tuned.run("chmod", "0660", "/dev/cpu_dma_latency")
    state = start(tuned, "idle_latency_us = 1999999", "idle-states.conf")
    assert state == "active", tuned.run("journalctl", "-u", NAME, "-o", "cat")
    assert tuned.show(NAME, "DevicePolicy") == "closed"
