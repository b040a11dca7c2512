"""The drop-ins of the receive modes under the real systemd: enough, and no more than documented."""

import re
from collections.abc import Iterator

import pytest

from tests.support.capabilities import mask
from tests.support.wait import wait_for
from tests.systemd.conftest import ROOT, Machine
from tests.systemd.test_units import CONFIG, capabilities_of_threads, journal, kept, send, stat

CAPABILITIES = {
    "packet": ("net_raw",),
    "xdp": ("net_raw", "net_admin", "bpf"),
    "dpdk": ("net_raw", "net_admin"),
    "dpdk-xdp": ("net_raw", "net_admin", "bpf"),
    "onload": ("net_admin",),
}
"""Of each mode that has a drop-in, what it is given beside IPC_LOCK."""
TO_THE_END = {"dpdk-xdp": ("net_admin",)}
"""What is kept beside IPC_LOCK."""
MODES = sorted(CAPABILITIES)
NEEDING = [mode for mode in MODES if mode != "onload"]
"""What they are given they cannot do without."""
# There is no such card here: the lines are the kernel's.
SETTINGS = {
    "onload": "[receive.onload]\nrequire = false\nlaunch = false\n",
    "dpdk": '[receive.dpdk]\nhuge_pages = false\nports = { lo = "net_af_packet0,iface=lo" }\n',
    "dpdk-xdp": '[receive.dpdk]\nhuge_pages = false\nports = { lo = "net_af_xdp0,iface=lo" }\n',
}

PORT = 26481


class Unit:
    """An instance with the drop-in of a mode."""

    def __init__(self, machine: Machine, mode: str) -> None:
        self.machine, self.mode = machine, mode
        self.name, self.channel = f"feedhandler@{mode}.service", mode
        config = CONFIG.format(port=PORT).replace('listen = ""', 'listen = "127.0.0.1:26482"')
        spin = str(mode.startswith("dpdk")).lower()
        config = config.replace(
            "spin = false", f'spin = {spin}\nmode = "{mode.partition("-")[0]}"\n{SETTINGS.get(mode, "")}'
        )
        self.machine.write(
            f"/etc/feedhandler/{mode}.toml", config.replace("port =", 'interface = "lo"\nport =')
        )
        self.use((ROOT / "systemd" / f"mode-{mode}.conf").read_text())

    def use(self, drop_in: str) -> None:
        """Take this for the drop-in."""
        self.machine.write(f"/etc/systemd/system/{self.name}.d/mode.conf", drop_in)
        self.machine.run("systemctl", "daemon-reload")

    def start(self) -> str:
        """Start it; return its state."""
        self.machine.run("systemctl", "start", self.name, check=False)
        return self.machine.show(self.name, "ActiveState")

    def close(self) -> None:
        """Forget it."""
        self.machine.run("systemctl", "stop", self.name)
        self.machine.run("systemctl", "reset-failed", self.name, check=False)
        self.machine.run("systemctl", "clean", "--what=runtime", self.name, check=False)
        self.machine.run("rm", "-r", f"/etc/systemd/system/{self.name}.d")
        self.machine.run("systemctl", "daemon-reload")


@pytest.fixture(params=MODES)
def unit(request: pytest.FixtureRequest, machine: Machine) -> Iterator[Unit]:
    """Each mode that has a drop-in."""
    made = Unit(machine, request.param)
    yield made
    made.close()


def test_mode_receives_and_gives_its_capabilities_up(unit: Unit) -> None:
    """Ready, messages in the books; no thread has what only the start needed, no helper anything."""
    machine = unit.machine
    assert unit.start() == "active", machine.run("journalctl", "-u", unit.name, "-o", "cat")
    send(machine, 1, 500, port=PORT)
    wait_for(lambda: stat(machine, unit.channel)["messages"] == 500, "500 messages", interval_s=0.2)
    pid = machine.show(unit.name, "MainPID")
    left = kept(machine, pid) | mask(TO_THE_END.get(unit.mode, ()))
    for sets in capabilities_of_threads(machine, pid):
        assert (sets["Prm"], sets["Eff"]) == (left, left)
        assert sets["Bnd"] == mask([*CAPABILITIES[unit.mode], "ipc_lock"])
    entries = journal(machine, unit.name)
    assert [entry for entry in entries if entry["event"] == "capabilities kept"] == []
    assert [entry["memory_locked"] for entry in entries if entry["event"] == "started"] == [True]

    def helper_has_none() -> bool:  # one that was started again has another number
        pid = [e["pid"] for e in journal(machine, unit.name) if e["event"] == "helper started"][-1]
        return {sets["Prm"] for sets in capabilities_of_threads(machine, str(pid))} == {0}

    wait_for(helper_has_none, "a helper without capabilities", interval_s=0.2)
    assert [entry for entry in journal(machine, unit.name) if entry["event"] == "helper died"] == []


@pytest.mark.parametrize("unit", NEEDING, indirect=True)
def test_nothing_of_the_drop_in_can_be_left_out(unit: Unit) -> None:
    """Without each of its capabilities the unit fails, and its log names the one that is missing."""
    whole = (ROOT / "systemd" / f"mode-{unit.mode}.conf").read_text()
    for name in CAPABILITIES[unit.mode]:
        missing = f"CAP_{name.upper()}"
        unit.use(whole.replace(f"{missing} ", ""))
        assert unit.start() != "active"
        assert f"needs {missing}" in unit.machine.run("journalctl", "-u", unit.name, "-o", "cat")
        unit.machine.run("systemctl", "stop", unit.name)
        unit.machine.run("systemctl", "reset-failed", unit.name, check=False)


@pytest.mark.parametrize("unit", ["dpdk-xdp"], indirect=True)
def test_killed_daemon_comes_back_when_the_unit_takes_its_program_off(unit: Unit) -> None:
    """By the line that the drop-in has for it; without, the start is refused by name."""
    machine, whole = unit.machine, (ROOT / "systemd" / f"mode-{unit.mode}.conf").read_text()
    assert unit.start() == "active"
    machine.run("systemctl", "kill", "--signal=KILL", unit.name)
    refused = (
        r"program \d+ is there already, and only CAP_SYS_ADMIN may read its name: ip link set lo xdp off"
    )

    def told() -> bool:
        return bool(re.search(refused, machine.run("journalctl", "-u", unit.name, "-o", "cat")))

    wait_for(told, "the refusal", interval_s=0.2)
    machine.run("systemctl", "stop", unit.name)  # else a start that began without the line is waited for
    unit.use(whole.replace("#ExecStartPre=+-ip link set eth2", "ExecStartPre=+-ip link set lo"))
    machine.run("systemctl", "reset-failed", unit.name, check=False)
    assert unit.start() == "active"
    send(machine, 1, 500, port=PORT)
    wait_for(lambda: stat(machine, unit.channel)["messages"] == 500, "500 messages", interval_s=0.2)


def test_unit_stays_hardened(unit: Unit) -> None:
    """`systemd-analyze security` still rates the exposure as OK; no line of the drop-in is misspelt."""
    verify = f"systemd-analyze verify --man=no {unit.name} 2>&1"
    found = unit.machine.run("sh", "-c", verify, check=False).splitlines()
    assert [line for line in found if "feedhandler" in line] == []
    rating = unit.machine.run("systemd-analyze", "security", "--no-pager", unit.name).strip().splitlines()[-1]
    assert float(re.search(r": ([0-9.]+) ", rating)[1]) <= 2.5, rating


def test_unit_that_starts_itself_again_under_onload_is_the_same_for_systemd(machine: Machine) -> None:
    """Ready by the process that systemd has started (Type=notify). Library and launcher are stand-ins."""
    folder, name = "/opt/onload-stand-in", "feedhandler@onload.service"
    source = "/opt/feedhandler-0/tests/support/onload_stand_in.c"
    machine.write(
        f"{folder}/onload", f'#!/bin/sh\nshift\nexport LD_PRELOAD={folder}/stand_in.so\nexec "$@"\n'
    )
    machine.run("chmod", "755", folder, f"{folder}/onload")
    machine.run("gcc", "-O1", "-shared", "-fPIC", "-o", f"{folder}/stand_in.so", source)
    table = f'mode = "onload"\nonload.launch = true\nonload.launcher = "{folder}/onload"'
    machine.write(
        "/etc/feedhandler/onload.toml",
        CONFIG.format(port=PORT + 5).replace("[receive]", f"[receive]\n{table}"),
    )
    drop_in = (ROOT / "systemd" / "mode-onload.conf").read_text()
    machine.write(f"/etc/systemd/system/{name}.d/mode.conf", drop_in)
    machine.run("systemctl", "daemon-reload")
    try:
        machine.run("systemctl", "start", name, check=False)
        assert machine.show(name, "ActiveState") == "active", machine.run(
            "journalctl", "-u", name, "-o", "cat"
        )
        send(machine, 1, 500, port=PORT + 5)
        wait_for(lambda: stat(machine, "onload")["messages"] == 500, "500 messages", interval_s=0.2)
        entries = journal(machine, name)
        events = [entry["event"] for entry in entries]
        assert events.index("starting again under onload") < events.index("joined")
        assert [entry["accelerated"] for entry in entries if entry["event"] == "joined"] == [True]
        assert machine.show(name, "NRestarts") == "0"
        [pid] = [entry["pid"] for entry in entries if entry["event"] == "started"]
        assert machine.show(name, "MainPID") == str(pid)
    finally:
        machine.run("systemctl", "stop", name)
        machine.run("systemctl", "reset-failed", name, check=False)
