"""A real daemon in a process of its own, started and stopped by a test."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from feedhandler import _core
from tests.support.exchange import Line
from tests.support.wait import wait_for

COMMAND = [sys.executable, "-c", "from feedhandler.cli import main; main()"]
STATES = ("STARTING", "LIVE", "RECOVERING", "STALE", "ENDED")


def environment(**more: str) -> dict[str, str]:
    """Return the environment in which a child finds the same package."""
    kept = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(("FEEDHANDLER", "NOTIFY", "WATCHDOG"))
    }
    return {**kept, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path), **more}


def write_config(
    folder: Path,
    lines: Sequence[Line],
    servers: Sequence[tuple[str, int]] = (),
    *,
    channel: str = "live",
    interface: str = "127.0.0.1",
    extra: str = "",
    **tables: str,
) -> Path:
    """Write a configuration; `tables`: further lines of [channel], [receive], [recovery], [publish]."""
    text = [f'[channel]\nname = "{channel}"\n', tables.get("channel_table", "")]
    for line in lines:
        text.append(f'[[line]]\nname = "{line.name}"\ngroup = "{line.group}"\nport = {line.port}\n')
        text.append(f'interface = "{interface}"\n')
    receive = tables.get("receive", "")
    spin = 'mode = "dpdk"' in receive  # it cannot sleep; on these few cores the others should
    text.append(f"[receive]\nspin = {str(spin).lower()}\n{receive}")
    text.append("[recovery]\n" + tables.get("recovery", "timeout_ms = 20\nrequests_per_s = 100000\n"))
    text += [f'[[recovery.server]]\naddress = "{address}:{port}"\n' for address, port in servers]
    text.append(
        "[publish]\n" + tables.get("publish", 'schemas = ["mbo", "mbp-1", "trades"]\nring_mib = 32\n')
    )
    text.append('[metrics]\nlisten = ""\n' + extra)
    path = folder / "feed.toml"
    path.write_text("\n".join(text))
    return path


class Daemon:
    """`feedhandler run`, with its service manager's socket and its log."""

    def __init__(
        self,
        config: Path,
        runtime_dir: Path,
        *,
        prefix: Sequence[str] = (),
        command: Sequence[str] = COMMAND,
        channel: str = "live",
        env: dict[str, str] | None = None,
    ) -> None:
        self.runtime_dir, self.channel = runtime_dir, channel
        self.log_path = runtime_dir.parent / f"{runtime_dir.name}.log"
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket_path = runtime_dir.parent / f"notify-{os.getpid()}-{id(self)}"
        self._socket.bind(str(self._socket_path))
        self._socket.setblocking(False)
        self.notified: list[str] = []
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                [*prefix, *command, "run", "--config", str(config), "--runtime-dir", str(runtime_dir)],
                env=environment(NOTIFY_SOCKET=str(self._socket_path), **(env or {})),
                stderr=log,
                stdout=subprocess.PIPE,
            )

    def wait_ready(self) -> "Daemon":
        """Return once the daemon has said READY."""

        def ready() -> bool:
            assert self.process.poll() is None, self.log_path.read_text()
            return any("READY=1" in message for message in self.notifications())

        wait_for(ready, "READY=1")
        return self

    def notifications(self) -> list[str]:
        """Return everything that the daemon has told its service manager so far."""
        with contextlib.suppress(BlockingIOError):
            while True:
                self.notified.append(self._socket.recv(4096).decode())
        return self.notified

    @property
    def reader(self) -> _core.ChannelReader:
        """A reader of the channel as it is now."""
        return _core.ChannelReader(str(self.runtime_dir / self.channel))

    def stat(self) -> dict[str, Any]:
        """Return the counters, by the command that users run."""
        done = subprocess.run(
            [*COMMAND, "stat", self.channel, "--json", "--runtime-dir", str(self.runtime_dir)],
            env=environment(),
            capture_output=True,
            text=True,
            timeout=30,
        )
        return dict(json.loads(done.stdout), exit_status=done.returncode)

    def log(self) -> list[dict[str, Any]]:
        """Return the log's entries."""
        return [json.loads(line) for line in self.log_path.read_text().splitlines() if line.startswith("{")]

    def stop(self, number: int = signal.SIGTERM, timeout_s: float = 10.0) -> int:
        """End the daemon by a signal; return its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(timeout_s)

    def close(self) -> None:
        """Leave nothing behind."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        if self.process.stdout:
            self.process.stdout.close()
        self._socket.close()
        self._socket_path.unlink(missing_ok=True)


@contextlib.contextmanager
def running(config: Path, runtime_dir: Path, **options: Any) -> Iterator[Daemon]:
    """Run a daemon that is ready; gone afterwards."""
    daemon = Daemon(config, runtime_dir, **options)
    try:
        yield daemon.wait_ready()
    finally:
        daemon.close()
        shutil.rmtree(runtime_dir, ignore_errors=True)
