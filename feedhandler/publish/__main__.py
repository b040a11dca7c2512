"""The ZeroMQ publisher process: `python -m feedhandler.publish CHANNEL --endpoint tcp://127.0.0.1:26700`."""

import signal
import time

import click
import zmq

from feedhandler.cli._helper import run_helper
from feedhandler.errors import RunError, UsageError
from feedhandler.publish.publisher import Publisher
from feedhandler.runtime_dir import channel_dir


@click.command(
    "publish", epilog="Example: python -m feedhandler.publish xnas-itch --endpoint ipc:///tmp/xnas"
)
@click.argument("channel")
@click.option("--endpoint", required=True, help="Where to bind: tcp://ADDRESS:PORT or ipc://PATH.")
@click.option(
    "--snapshot-endpoint", default="", help="Where late subscribers get images of books; none by default."
)
@click.option(
    "--hwm",
    type=click.IntRange(min=1),
    default=10_000,
    show_default=True,
    help="Messages held per subscriber.",
)
@click.option("--runtime-dir", metavar="DIR", help="Where channels live.")
@click.option(
    "--start-timeout-s", type=float, default=10.0, show_default=True, help="How long to wait for the channel."
)
def command(
    channel: str,
    endpoint: str,
    snapshot_endpoint: str,
    hwm: int,
    runtime_dir: str | None,
    start_timeout_s: float,
) -> None:
    """Publish CHANNEL's records and feed events until SIGTERM or SIGINT.

    When the daemon dies it publishes the state DEAD and waits for the next one.
    """
    stopped: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda signum, _frame: stopped.append(signum))
    deadline = time.monotonic() + start_timeout_s
    publisher = _open(channel, runtime_dir, endpoint, snapshot_endpoint, hwm, deadline, stopped)
    while publisher is not None and not stopped:
        publisher.step(0.05)
    if publisher is not None:
        publisher.close()


def _open(
    channel: str,
    runtime_dir: str | None,
    endpoint: str,
    snapshot_endpoint: str,
    hwm: int,
    deadline: float,
    stopped: list[int],
) -> Publisher | None:
    while not stopped:
        try:
            directory = str(channel_dir(channel, runtime_dir))
            return Publisher(directory, endpoint, hwm, snapshot_endpoint=snapshot_endpoint)
        except zmq.ZMQError as error:
            where = f'"{endpoint}"' + (f' or "{snapshot_endpoint}"' if snapshot_endpoint else "")
            raise RunError(f"publish.zmq.endpoint (--endpoint): {where}: {error}") from None
        except (UsageError, RunError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)
    return None


if __name__ == "__main__":
    run_helper(command, "feedhandler.publish")
