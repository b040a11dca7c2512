"""Messages to the service manager (sd_notify), without a dependency."""

import os
import socket


def notify(message: str) -> bool:
    """Send e.g. "READY=1" to systemd; return False when there is no one to tell.

    A message that cannot be delivered is not an error: the manager's time-outs deal with it.
    """
    address = os.environ.get("NOTIFY_SOCKET", "")
    if address[:1] not in ("/", "@"):
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
        sender.setblocking(False)
        try:
            sender.sendto(message.encode(), address.replace("@", "\0", 1) if address[0] == "@" else address)
        except OSError:
            return False
    return True


def watchdog_interval_s() -> float | None:
    """Return how often the manager wants a sign of life, None when it does not."""
    if os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    try:
        return int(os.environ["WATCHDOG_USEC"]) / 1e6
    except (KeyError, ValueError):
        return None
