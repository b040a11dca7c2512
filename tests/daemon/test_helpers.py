"""The daemon's helper processes: started, restarted, never in the way, never left behind."""

import os
import signal
import socket
import urllib.error
import urllib.request
from pathlib import Path

import pytest
import zmq

from tests.support.daemon import Daemon, running, write_config
from tests.support.exchange import Line
from tests.support.multicast import free_port, free_ports
from tests.support.wait import wait_for


def config_with_helpers(folder: Path, metrics_port: int, zmq_port: int = 0) -> Path:
    """Write a configuration with a metrics exporter, and a ZeroMQ publisher if it has a port."""
    lines = [Line("A", f"239.199.{os.getpid() % 250}.1", free_port())]
    extra = f'[publish.zmq]\nendpoint = "tcp://127.0.0.1:{zmq_port}"\n' if zmq_port else ""
    path = write_config(folder, lines, extra=extra)
    path.write_text(path.read_text().replace('listen = ""', f'listen = "127.0.0.1:{metrics_port}"'))
    return path


def tcp_ports(count: int) -> list[int]:
    """Return TCP ports that are free now."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [opened.getsockname()[1] for opened in sockets]
    for opened in sockets:
        opened.close()
    return ports


def helpers(daemon: Daemon) -> dict[str, int]:
    """Return {name: pid} of the helpers as the log last reported them."""
    return {entry["helper"]: entry["pid"] for entry in daemon.log() if entry["event"] == "helper started"}


def metrics(port: int) -> str:
    """Fetch the metrics; empty when nobody serves them."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
            return answer.read().decode()
    except (urllib.error.URLError, ConnectionError):
        return ""


def alive(pid: int) -> bool:
    """Tell whether the process runs; one that only waits to be buried does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def test_helpers_serve_and_come_back_when_killed(tmp_path: Path) -> None:
    """Both helpers work; killed, they are started again and the feed does not notice."""
    metrics_port, zmq_port = tcp_ports(2)
    with running(config_with_helpers(tmp_path, metrics_port, zmq_port), tmp_path / "run") as daemon:
        wait_for(lambda: "feedhandler_" in metrics(metrics_port), "metrics", interval_s=0.1)
        assert receives_heartbeat(zmq_port)
        before = helpers(daemon)
        assert sorted(before) == ["metrics", "zmq"]
        for pid in before.values():
            os.kill(pid, signal.SIGKILL)
        wait_for(
            lambda: not {*before.values()} & {*helpers(daemon).values()}, "both helpers again", interval_s=0.1
        )
        wait_for(lambda: "feedhandler_" in metrics(metrics_port), "metrics again", interval_s=0.1)
        assert daemon.process.poll() is None
        assert sum(entry["event"] == "helper died" for entry in daemon.log()) == 2


def receives_heartbeat(port: int) -> bool:
    """Subscribe until something comes."""
    context = zmq.Context()
    subscriber = context.socket(zmq.SUB)
    try:
        subscriber.setsockopt(zmq.SUBSCRIBE, b"live/feed/")
        subscriber.connect(f"tcp://127.0.0.1:{port}")
        return bool(subscriber.poll(20_000))
    finally:
        subscriber.close(0)
        context.term()


def test_taken_metrics_port_is_a_warning_and_the_feed_goes_on(tmp_path: Path) -> None:
    """The exporter fails and is tried again with growing pauses; the channel is up all the while."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with running(config_with_helpers(tmp_path, port), tmp_path / "run") as daemon:

            def deaths() -> list[dict]:
                return [entry for entry in daemon.log() if entry["event"] == "helper died"]

            wait_for(lambda: len(deaths()) >= 2, "two attempts", interval_s=0.1)
            assert [entry["level"] for entry in deaths()[:2]] == ["warning", "warning"]
            assert [entry["restart_in_s"] for entry in deaths()[:2]] == [0.05, 0.1]
            assert daemon.stat()["state"] == "STARTING"
            taken.close()
            wait_for(lambda: "feedhandler_" in metrics(port), "metrics once the port is free", interval_s=0.2)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_helpers_do_not_outlive_the_daemon(tmp_path: Path, number: int) -> None:
    """However the daemon ends, nothing of it is left."""
    metrics_port, zmq_port = tcp_ports(2)
    with running(config_with_helpers(tmp_path, metrics_port, zmq_port), tmp_path / "run") as daemon:
        pids = wait_for(lambda: len(helpers(daemon)) == 2 and helpers(daemon), "both helpers").values()
        wait_for(lambda: "feedhandler_" in metrics(metrics_port), "metrics", interval_s=0.1)
        daemon.stop(number)
        wait_for(lambda: not any(map(alive, pids)), "the end of the helpers")


def test_helpers_cannot_speak_for_the_daemon(tmp_path: Path) -> None:
    """Their environment has no address of the service manager, no secrets, no overrides."""
    [metrics_port] = tcp_ports(1)
    env = {"WATCHDOG_USEC": "3000000", "CREDENTIALS_DIRECTORY": "/x", "FEEDHANDLER__PUBLISH__DEPTH": "5"}
    with running(config_with_helpers(tmp_path, metrics_port), tmp_path / "run", env=env) as daemon:
        pid = wait_for(lambda: helpers(daemon).get("metrics"), "the exporter")
        wait_for(lambda: "feedhandler_" in metrics(metrics_port), "metrics", interval_s=0.1)
        names = {
            entry.split("=")[0] for entry in Path(f"/proc/{pid}/environ").read_text().split("\0") if entry
        }
        assert names <= {"PATH", "PYTHONPATH", "PYTHONHOME", "HOME", "LANG", "LC_ALL", "TZ", "TERM"}


def test_watchdog_is_fed_while_the_receive_thread_works(tmp_path: Path) -> None:
    """With WATCHDOG_USEC set, WATCHDOG=1 comes several times within the interval."""
    lines = [Line("A", f"239.199.{os.getpid() % 250}.1", next(free_ports(1)))]
    env = {"WATCHDOG_USEC": "400000"}
    with running(write_config(tmp_path, lines), tmp_path / "run", env=env) as daemon:
        wait_for(lambda: daemon.notifications().count("WATCHDOG=1") >= 5, "signs of life")
        assert daemon.notified[0].startswith("READY=1\nSTATUS=STARTING")
