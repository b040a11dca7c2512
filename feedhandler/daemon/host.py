"""Looks at the host that is to run a channel: what keeps the daemon from working, or from working well."""

from pathlib import Path

from feedhandler.config import Config
from feedhandler.daemon import (
    _host_clock,
    _host_cpu,
    _host_device,
    _host_directory,
    _host_interrupts,
    _host_journal,
    _host_memory,
    _host_network,
    _host_onload,
    _host_privileges,
    _host_recovery,
)
from feedhandler.daemon._finding import Finding

__all__ = ["Finding", "look"]


def look(config: Config, directory: Path) -> list[Finding]:
    """Return all findings, good ones too; `directory`: the channel's folder in the runtime directory.

    Starts nothing and changes nothing; the groups are joined for a moment.
    """
    return [
        *_host_network.look(config),
        *(_host_onload.look(config) if config.receive.mode == "onload" else ()),
        *_host_recovery.look(config),
        *_host_privileges.look(config),
        *_host_cpu.look(config),
        *_host_interrupts.look(config),
        *_host_device.look(config),
        *_host_memory.look(config),
        *_host_directory.look(config, directory),
        *_host_clock.look(config),
        *_host_journal.look(config),
    ]
