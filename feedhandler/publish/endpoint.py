"""Where the ZeroMQ publisher listens."""

from pathlib import Path
from typing import Any

import zmq


def bind(socket: "zmq.Socket[Any]", endpoint: str) -> None:
    """Bind; a socket in the file system may be connected to by its group, whatever the umask.

    To connect is to write: with the umask of the unit only the daemon's user could.
    """
    socket.bind(endpoint)
    kind, _, path = endpoint.partition("://")
    if kind == "ipc" and not path.startswith("@"):
        Path(path).chmod(0o660)
