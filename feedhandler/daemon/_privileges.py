"""What the daemon gives up once its lines are open: capabilities, of all its threads and of its helpers."""

import ctypes
import os
import resource
from collections.abc import Iterable

from structlog.typing import FilteringBoundLogger

from feedhandler import _core
from feedhandler.config import Config

CAPABILITIES = {
    "CAP_CHOWN": 0,
    "CAP_DAC_OVERRIDE": 1,
    "CAP_DAC_READ_SEARCH": 2,
    "CAP_FOWNER": 3,
    "CAP_NET_ADMIN": 12,
    "CAP_NET_RAW": 13,
    "CAP_IPC_LOCK": 14,
    "CAP_SYS_NICE": 23,
    "CAP_BPF": 39,
}
"""Numbers in linux/capability.h of those that are ever asked for or kept."""

_OF_ROOT = ("CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_FOWNER")
"""The files of others, as root is used to: a journal that another user began, for one."""

_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL = 47, 4


_KEEP_NOTHING = ("net_af_packet", "net_pcap", "net_null", "net_ring")
"""Drivers of DPDK whose devices the kernel takes back by itself when the process ends."""


def drop_privileges(log: FilteringBoundLogger, feed: _core.Feed, config: Config) -> None:
    """Keep no capability that the rest of the run does not need; helpers get none at all."""
    kept = needed(
        root=os.geteuid() == 0,
        memory_locked=feed.memory_locked,
        limit_bytes=resource.getrlimit(resource.RLIMIT_MEMLOCK)[0],
        dpdk_ports=config.receive.dpdk.ports.values() if config.receive.mode == "dpdk" else (),
    )
    ctypes.CDLL(None).prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
    try:
        _core.limit_capabilities(sum(1 << CAPABILITIES[name] for name in kept))
    except RuntimeError as error:  # such as a filter of system calls that refuses capset
        log.warning("capabilities kept", reason=str(error))


def needed(
    *, root: bool, memory_locked: bool, limit_bytes: int, dpdk_ports: Iterable[str] = ()
) -> tuple[str, ...]:
    """Return what a feed that runs still needs, of what it may have; `limit_bytes`: of locked memory."""
    kept: tuple[str, ...] = _OF_ROOT if root else ()
    if any(not port.startswith(_KEEP_NOTHING) for port in dpdk_ports):
        kept += ("CAP_NET_ADMIN",)  # to take its program off the device at the end, or its filters off a card
    # Locked memory stays so without it, but what is mapped later could not be had beyond the limit.
    if memory_locked and limit_bytes != resource.RLIM_INFINITY:
        kept += ("CAP_IPC_LOCK",)
    return kept
