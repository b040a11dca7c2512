"""The exporter process: `python -m feedhandler.metrics CHANNEL --listen 127.0.0.1:9464`."""

import time
from pathlib import Path

import click
from prometheus_client import CollectorRegistry, start_http_server

from feedhandler.cli._helper import run_helper
from feedhandler.daemon._log import open_log
from feedhandler.errors import RunError, UsageError
from feedhandler.metrics.exporter import ChannelCollector
from feedhandler.runtime_dir import channel_dir
from feedhandler.stop import Stop, StopSignal


@click.command("metrics", epilog="Example: python -m feedhandler.metrics xnas-itch --listen 127.0.0.1:9464")
@click.argument("channel")
@click.option(
    "--listen", default="127.0.0.1:9464", show_default=True, metavar="ADDRESS:PORT", help="Where to serve."
)
@click.option("--runtime-dir", metavar="DIR", help="Where channels live.")
@click.option(
    "--start-timeout-s", type=float, default=10.0, show_default=True, help="How long to wait for the channel."
)
def command(channel: str, listen: str, runtime_dir: str | None, start_timeout_s: float) -> None:
    """Serve CHANNEL's counters to Prometheus until SIGTERM or SIGINT."""
    address, port = _parse(listen)
    stopped = StopSignal()
    folder = _wait_for(channel, runtime_dir, time.monotonic() + start_timeout_s, stopped)
    registry = CollectorRegistry()
    registry.register(ChannelCollector(folder))
    try:
        server, thread = start_http_server(port, address, registry)
    except OSError as error:
        raise RunError(f'metrics.listen (--listen): "{listen}": {error.strerror}') from None
    open_log(folder.name).info("serving", url=f"http://{address}:{server.server_port}/metrics")
    stopped.wait()
    server.shutdown()
    thread.join()


def _parse(listen: str) -> tuple[str, int]:
    address, separator, port = listen.rpartition(":")
    if not separator or not port.isdigit() or int(port) > 65535:
        raise UsageError(f'metrics.listen (--listen): "{listen}": ADDRESS:PORT is allowed')
    return address.strip("[]") or "127.0.0.1", int(port)


def _wait_for(channel: str, runtime_dir: str | None, deadline: float, stopped: Stop) -> Path:
    while True:
        try:
            return channel_dir(channel, runtime_dir)
        except UsageError:
            if time.monotonic() > deadline or stopped.wait(0.02):
                raise


if __name__ == "__main__":
    run_helper(command, "feedhandler.metrics")
