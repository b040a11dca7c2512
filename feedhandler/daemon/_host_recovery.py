"""The side of `feedhandler check` that repairs: routes to the servers, the snapshot server's password."""

import socket
from collections.abc import Iterator

from feedhandler.config import Config
from feedhandler.daemon._feed import snapshot_login
from feedhandler.daemon._finding import Finding, error, ok
from feedhandler.errors import UsageError

PASSWORD = "recovery.snapshot.password_file"  # noqa: S105  a key


def look(config: Config) -> Iterator[Finding]:
    """Yield what keeps the daemon from its servers."""
    for index, server in enumerate(config.recovery.server):
        yield _route(f"recovery.server[{index}]", *server.host_port)
    if config.recovery.snapshot:
        yield _route("recovery.snapshot", *config.recovery.snapshot.host_port)
        yield _password(config)


def _route(key: str, host: str, port: int) -> Finding:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((host, port))  # finds the route; sends nothing
        except OSError as failure:
            text = f"{host}:{port}: {(failure.strerror or '').lower()}"
            return error(f"{key}.address", text, "add a route to it", f"ip route get {host}")
    return ok(f"{key}.address", f"there is a route to {host}:{port}")


def _password(config: Config) -> Finding:
    try:
        snapshot_login(config)
    except UsageError as failure:
        text = str(failure).removeprefix(f"{config.where(PASSWORD)}: ")
        return error(PASSWORD, text, "docs/recovery.md says how the daemon gets it")
    return ok(PASSWORD, "holds a password")
