"""The host check, as users run it."""

import json
import os
import socket
import subprocess
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from feedhandler.config import Config
from feedhandler.daemon._clock import UNKNOWN_NS, Health
from feedhandler.daemon._hardware_clock import Reading
from feedhandler.daemon._host_clock import (
    disciplines,
    judge_device,
    judge_granularity,
    judge_source,
    judge_system,
)
from feedhandler.daemon._host_journal import file_system
from feedhandler.daemon._kernel_files import parse_cpus
from feedhandler.devices import device_names, device_of, is_here
from feedhandler.journal.segments import segment_path
from feedhandler.journal.writer import locked
from tests.support.daemon import COMMAND, environment
from tests.support.multicast import free_port
from tests.support.small_memory import small_memory

CONFIG = """\
[channel]
name = "checked"
[[line]]
name = "A"
group = "239.195.8.1"
port = 26477
[metrics]
listen = "127.0.0.1:{port}"
"""


def check(
    folder: Path, *options: str, text: str = "", prefix: Sequence[str] = (), **env: str
) -> subprocess.CompletedProcess[str]:
    """Run the command on a configuration in `folder`."""
    (folder / "feed.toml").write_text(text or CONFIG.format(port=free_port()))
    command = [*prefix, *COMMAND, "check", "--config", "feed.toml"]
    command += ["--runtime-dir", str(folder / "run"), *options]
    return subprocess.run(
        command, cwd=folder, env=environment(**env), capture_output=True, text=True, timeout=60
    )


def findings(done: subprocess.CompletedProcess[str]) -> dict[str, dict[str, str]]:
    """Return the findings by what was checked."""
    return {finding["check"]: finding for finding in json.loads(done.stdout)["findings"]}


def test_fit_host_has_no_errors_and_nothing_is_started(tmp_path: Path) -> None:
    """Exit status 0, the group joinable, and no folder made."""
    done = check(tmp_path, "--json")
    assert done.returncode == 0, done.stdout
    found = findings(done)
    assert found["line[0].group"]["status"] == "ok"
    assert found["runtime directory"]["status"] == "ok"
    assert not (tmp_path / "run").exists()
    wrong = [finding for finding in found.values() if finding["status"] != "ok"]
    assert all(finding["remedy"] for finding in wrong)


def test_readable_output_has_each_remedy_below_its_finding(tmp_path: Path) -> None:
    """For people: a line a finding, the remedy below, a summary at the end."""
    done = check(tmp_path, FEEDHANDLER__LINE__0__INTERFACE="nope0")
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    at = next(i for i, line in enumerate(lines) if "line[0].interface" in line)
    assert lines[at] == 'ERROR    line[0].interface: "nope0" is no device or address of this machine'
    assert lines[at + 1].strip().startswith("-> use one of: ")
    assert lines[-1].startswith("1 error, ")


def test_metrics_port_that_is_taken_is_a_warning(tmp_path: Path) -> None:
    """The feed would run all the same."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        done = check(tmp_path, "--json", text=CONFIG.format(port=taken.getsockname()[1]))
    assert done.returncode == 0
    assert findings(done)["metrics.listen"]["status"] == "warning"


def test_cpu_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    """An impossible pin keeps the daemon from starting."""
    done = check(tmp_path, "--json", FEEDHANDLER__RECEIVE__CPU="4000")
    assert done.returncode == 1
    assert findings(done)["receive.cpu"]["status"] == "error"


def test_runtime_directory_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    """A file where the folder should be."""
    (tmp_path / "run").write_text("")
    done = check(tmp_path, "--json")
    assert done.returncode == 1
    assert findings(done)["runtime directory"]["status"] == "error"


@pytest.mark.parametrize(("folder", "status"), [("/dev/shm", "ok"), ("/var/tmp", "warning")])
def test_channel_on_a_disk_is_a_warning(tmp_path: Path, folder: str, status: str) -> None:
    """The kernel writes a disk's pages back and has the receive thread fault on each again."""
    command = ["findmnt", "-n", "-o", "FSTYPE", "-T", folder]
    kind = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-1]
    assert (kind == "tmpfs") == (status == "ok"), "this machine has other file systems than usual"
    found = findings(check(tmp_path, "--json", "--runtime-dir", folder))["channel memory"]
    assert found["status"] == status
    assert found["text"].startswith(kind)


def test_unroutable_server_is_an_error(tmp_path: Path) -> None:
    """A re-request server that no route leads to can never answer."""
    text = CONFIG.format(port=free_port()) + '[[recovery.server]]\naddress = "255.255.255.255:1"\n'
    assert findings(check(tmp_path, "--json", text=text))["recovery.server[0].address"]["status"] == "error"


def test_wrong_file_reports_all_its_faults_and_exits_with_2(tmp_path: Path) -> None:
    """Unlike `run`, which stops at the first, every fault is listed."""
    text = CONFIG.format(port=1).replace("239.195.8.1", "10.0.0.1").replace("26477", "0")
    done = check(tmp_path, "--json", text=text)
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        'feed.toml: line[0].group: "10.0.0.1" is not an IPv4 multicast address',
        "feed.toml: line[0].port: 0 is not a port (1 to 65535)",
    ]
    assert json.loads(done.stdout)["errors"] == 2


def test_device_that_is_down_is_an_error(tmp_path: Path) -> None:
    """A link that is down brings nothing; the remedy is the command that brings it up."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to make a network namespace")
    done = check(tmp_path, "--json", prefix=["unshare", "--net"])  # a new one has a loopback that is down
    assert done.returncode == 1
    finding = findings(done)["line[0].interface"]
    assert (finding["status"], finding["remedy"]) == ("error", "ip link set lo up")


def journal_config(directory: Path, **settings: object) -> str:
    """Return a configuration with a journal."""
    lines = [f'directory = "{directory}"', *(f"{key} = {value}" for key, value in settings.items())]
    return CONFIG.format(port=free_port()) + "[journal]\n" + "\n".join(lines) + "\n"


def test_journal_directory_that_will_do_says_where_it_lies_and_what_fits(tmp_path: Path) -> None:
    """Its file system and mount point, the space against the limit; nothing is made."""
    done = check(
        tmp_path, "--json", text=journal_config(tmp_path / "a" / "b", retain_gib=0.001, segment_mib=1)
    )
    found = findings(done)
    assert done.returncode == 0, done.stdout
    mount_point, kind = subprocess.run(
        ["findmnt", "-n", "-o", "TARGET,FSTYPE", "-T", str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    of_directory = [f for f in json.loads(done.stdout)["findings"] if f["check"] == "journal.directory"]
    assert of_directory[0]["text"] == f"{tmp_path}/a/b can be written, {kind} at {mount_point}"
    assert found["journal.retain_gib"]["status"] == "ok"
    assert "at most 0.001 GiB are kept" in found["journal.retain_gib"]["text"]
    assert not (tmp_path / "a").exists()


def test_journal_directory_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    """A file stands where a folder should be."""
    (tmp_path / "file").write_text("")
    done = check(tmp_path, "--json", text=journal_config(tmp_path / "file" / "journal"))
    assert done.returncode == 1
    assert findings(done)["journal.directory"]["status"] == "error"
    assert findings(done)["journal.directory"]["remedy"]


def test_journal_directory_that_may_not_be_looked_into_is_an_error() -> None:
    """As /var/lib/private is to others: named among the findings, which all the others are told with."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "private").mkdir(mode=0o700)
        found = as_nobody(folder, journal_config(folder / "private" / "xnas"))
    assert found["journal.directory"]["status"] == "error"
    assert found["journal.directory"]["text"].startswith(f"{folder}/private/xnas cannot be made or written")
    assert found["line[0].group"]["status"] == "ok"


def test_journal_directory_that_another_one_writes_into_is_a_warning(tmp_path: Path) -> None:
    """It may be this channel's own daemon that runs."""
    text = journal_config(tmp_path, segment_mib=1, retain_gib=0.004)
    with locked(tmp_path, threading.Event()):
        found = json.loads(check(tmp_path, "--json", text=text).stdout)["findings"]
    assert [f["status"] for f in found if f["text"].startswith("a journal is writing into")] == ["warning"]
    assert "a journal is writing" not in check(tmp_path, text=text).stdout


def test_segment_that_is_gone_meanwhile_is_not_counted(tmp_path: Path) -> None:
    """The journal compresses and removes while the check looks."""
    segment_path(tmp_path, "checked", 1).with_suffix("").symlink_to("nowhere")
    segment_path(tmp_path, "checked", 2).with_suffix("").write_bytes(bytes(2 << 20))
    text = journal_config(tmp_path, segment_mib=1, retain_gib=0.004)
    assert (
        "2 MiB of segments there"
        in findings(check(tmp_path, "--json", text=text))["journal.retain_gib"]["text"]
    )


@pytest.mark.parametrize(
    ("settings", "key", "status", "text"),
    [
        ({"segment_mib": 1}, "journal.retain_gib", "warning", "100 GiB are to be kept, the disk has "),
        (
            {"segment_mib": 1, "retain_gib": 0.0},
            "journal.retain_gib",
            "warning",
            "never removed for their size",
        ),
        ({"segment_mib": 1, "retain_gib": 0.004}, "journal.retain_gib", "ok", "2 MiB of segments there"),
        ({"segment_mib": 5}, "journal.segment_mib", "error", "no place for two segments of 5 MiB"),
    ],
)
def test_journal_on_a_small_disk_is_told_before_it_is_full(
    tmp_path: Path, settings: dict[str, object], key: str, status: str, text: str
) -> None:
    """6 MiB of memory, 2 of them segments: the limit against what is free and what is held already."""
    with small_memory(tmp_path / "a disk", 6) as disk:
        (disk / "checked-20261120T143000.000000001Z.pcap").write_bytes(bytes(2 << 20))
        found = findings(check(tmp_path, "--json", text=journal_config(disk, **settings)))
    assert (found[key]["status"], text in found[key]["text"]) == (status, True), found[key]
    assert found["journal.directory"]["text"] == "tmpfs is memory: the journal is gone with the power"


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("/var/x", ("/", "ext4")),
        ("/data/with space/j", ("/data/with space", "btrfs")),
        ("/data/with spaces", ("/data", "nfs4")),
        ("/data", ("/data", "nfs4")),
    ],
)
def test_file_system_is_the_newest_mount_with_the_longest_name(
    tmp_path: Path, path: str, found: tuple[str, str]
) -> None:
    """As /proc/self/mountinfo lists them, blanks as octal numbers."""
    (tmp_path / "mountinfo").write_text(
        "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n"
        "30 22 0:40 / /data rw - xfs /dev/sdb rw\n"
        "31 30 0:41 / /data/with\\040space rw - btrfs /dev/sdc rw\n"
        "32 22 0:42 / /data rw master:3 - nfs4 host:/x rw\n"
    )
    mount_point, kind = file_system(Path(path), str(tmp_path / "mountinfo"))
    assert (str(mount_point), kind) == found


@pytest.mark.parametrize(
    ("interface", "device"),
    [
        ("lo", "lo"),
        ("127.0.0.1", "lo"),
        ("127.0.0.9", "lo"),
        ("nope0", None),
        ("10g0", None),
        ("192.0.2.1", None),
    ],
)
def test_device_is_found_by_name_and_by_address(interface: str, device: str | None) -> None:
    """An address names the device that has it."""
    assert device_of(interface) == device
    assert is_here(interface) == (device is not None)


def test_all_devices_are_named() -> None:
    """As netlink tells them, which a service may not be allowed to ask."""
    assert set(device_names().split(", ")) == {name for _, name in socket.if_nameindex()}


def as_nobody(folder: Path, text: str) -> dict[str, dict[str, str]]:
    """Return the findings of a user without privileges."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to run as another user")
    folder.chmod(0o777)
    prefix = ["prlimit", "--rtprio=0:0", "setpriv", "--reuid=65534", "--clear-groups"]
    return findings(check(folder, "--json", text=text, prefix=prefix))


@pytest.mark.parametrize(
    ("key", "text", "tables"),
    [
        ("receive.priority", "5 is not granted", "[receive]\npriority = 5\ncpu = 0\nspin = false\n"),
        (
            "receive.idle_latency_us",
            "0: /dev/cpu_dma_latency cannot be written",
            "[receive]\nidle_latency_us = 0\n",
        ),
        (
            "recovery.snapshot.password_file",
            '"/nowhere": No such file or directory',
            '[recovery.snapshot]\npassword_file = "/nowhere"\n',
        ),
        (
            "publish.zmq.endpoint",
            "/nowhere is no folder that this user may write",
            '[publish.zmq]\nendpoint = "ipc:///nowhere/zmq"\n',
        ),
    ],
)
def test_what_keeps_the_daemon_or_a_helper_from_starting_is_found(key: str, text: str, tables: str) -> None:
    """The check says before what the start would say."""
    with tempfile.TemporaryDirectory() as name:
        finding = as_nobody(Path(name), CONFIG.format(port=free_port()) + tables)[key]
    assert finding["status"] == ("warning" if key.startswith("publish") else "error")
    assert finding["text"].startswith(text)


def test_channel_larger_than_the_memory_is_an_error(tmp_path: Path) -> None:
    """All of it is present from the start: the kernel would kill the daemon."""
    total_mib = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") >> 20
    text = CONFIG.format(port=free_port()) + "[publish]\nring_mib = 65536\n"
    if total_mib > 60_000:
        pytest.skip("this machine has room for the largest ring")
    done = check(tmp_path, "--json", text=text)
    assert done.returncode == 1
    wrong = [finding["text"] for finding in findings(done).values() if finding["status"] == "error"]
    assert len(wrong) == 1
    assert "the channel needs up to 65600" in wrong[0]


@pytest.mark.parametrize(
    ("size_mib", "tables", "status", "text"),
    [
        (400, "", "ok", "can be written"),
        (200, "", "warning", "has no room for 128 MiB twice"),
        (100, "", "error", "100 MiB free, the channel needs up to 128"),
        (200, '[journal]\ndirectory = "j"\nring_mib = 128\n', "error", "the channel needs up to 256"),
    ],
)
def test_channel_fits_its_file_system_also_beside_that_of_a_run_that_crashed(
    tmp_path: Path, size_mib: int, tables: str, status: str, text: str
) -> None:
    """A new channel is made before the old one goes; the ring of the journal counts too."""
    with small_memory(tmp_path / "run", size_mib):
        done = check(tmp_path, "--json", text=CONFIG.format(port=free_port()) + tables)
    finding = findings(done)["runtime directory"]
    assert finding["status"] == status
    assert text in finding["text"]


def test_zeromq_endpoint_may_name_a_device(tmp_path: Path) -> None:
    """As libzmq takes it: the device's first address."""
    text = CONFIG.format(port=free_port()) + f'[publish.zmq]\nendpoint = "tcp://lo:{free_port()}"\n'
    finding = findings(check(tmp_path, "--json", text=text))["publish.zmq.endpoint"]
    assert finding["status"] == "ok", finding


@pytest.mark.parametrize(
    ("text", "cpus"),
    [("", set()), ("(null)", set()), ("3", {3}), ("0-2,8", {0, 1, 2, 8}), ("1,4-5", {1, 4, 5})],
)
def test_kernel_lists_of_cpus_are_understood(text: str, cpus: set[int]) -> None:
    """As in /sys/devices/system/cpu/isolated."""
    assert parse_cpus(text) == cpus


def test_clock_of_this_host_is_looked_at(tmp_path: Path) -> None:
    """Synchronisation, granularity, source, and each line's device; loopback has no clock of its own."""
    found = findings(check(tmp_path, "--json"))
    assert {"clock", "clock.granularity", "clock.source", "clock.lo"} <= set(found)
    assert found["clock.lo"]["status"] == "ok"
    found = findings(check(tmp_path, "--json", FEEDHANDLER__RECEIVE__HARDWARE_TIMESTAMPS="true"))
    assert found["clock.lo"]["status"] == "warning"


@pytest.mark.parametrize(
    ("health", "by", "status", "text", "remedy"),
    [
        (Health("ok", divergence_ns=900, maximum_error_ns=500_000), "phc2sys, ptp4l", "ok", "0.9 us", ""),
        (Health("diverges", divergence_ns=2_500_000), "chronyd", "warning", "2500.0 us", "PTP"),
        (Health("unknown", maximum_error_ns=500_000), "phc2sys", "warning", "0.500 ms", "clock of the line"),
        (
            Health("coarse", maximum_error_ns=500_000),
            "phc2sys",
            "warning",
            "nobody says",
            "clock of the line",
        ),
        (Health("coarse", divergence_ns=900), "chronyd", "ok", "0.9 us", ""),
        (Health("unsynchronised"), "", "warning", "not synchronised", "in a container: on its host"),
        (Health("unsynchronised"), "chronyd", "warning", "by chronyd", "rtcsync"),
        (Health("unreadable"), "", "warning", "adjtimex refused", "SystemCallFilter"),
    ],
)
def test_verdict_on_the_clock_names_its_remedy(
    health: Health, by: str, status: str, text: str, remedy: str
) -> None:
    """Each with what there is to do about it."""
    found = judge_system(health, 100.0, by)
    assert found.status == status
    assert text in found.text
    assert remedy in found.remedy
    assert str(UNKNOWN_NS) not in found.text


def test_coarse_clock_and_slow_source_are_warnings() -> None:
    """A microsecond is asked for; the TSC is what reads fast."""
    assert judge_granularity(1_000, 1.0).status == "ok"
    assert judge_granularity(4_000_000, 1.0).status == "warning"
    assert judge_source("tsc").status == "ok"
    assert judge_source("hpet").status == "warning"


def test_devices_clock_in_the_other_time_scale_is_recognised() -> None:
    """37 s off: the remedy is the one setting that says which scale it is."""
    line = {"name": "A", "group": "239.1.1.1", "port": 1}
    tai, utc = (
        Config.model_validate(
            {"channel": {"name": "x"}, "line": [line], "receive": {"hardware_clock": scale}}
        )
        for scale in ("tai", "utc")
    )
    ahead = Reading(37_000_000_500, 100)
    assert judge_device(tai, "eth0", 0, ahead, 37).status == "ok"
    assert 'hardware_clock = "tai"' in judge_device(utc, "eth0", 0, ahead, 37).remedy
    assert 'hardware_clock = "utc"' in judge_device(tai, "eth0", 0, Reading(500), 37).remedy
    assert "TAI minus UTC" in judge_device(tai, "eth0", 0, ahead, 0).text
    assert "ptp4l" in judge_device(tai, "eth0", 0, Reading(-NEVER_SET_NS), 37).remedy
    assert "/dev/ptp4" in judge_device(tai, "eth0", 4, None, 37).remedy


NEVER_SET_NS = 1_795_000_000_000_000_000


def test_processes_that_set_clocks_are_named() -> None:
    """By the names the kernel cuts to 15 characters."""
    names = {"systemd", "ptp4l", "phc2sys", "systemd-timesyn"}
    assert disciplines(names) == "phc2sys, ptp4l, systemd-timesyn"
    assert disciplines({"bash"}) == ""
