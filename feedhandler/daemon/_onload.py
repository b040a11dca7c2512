"""Starts the daemon again under `onload`: its library must be in a process from the start."""

import os
import shutil
import sys

from structlog.typing import FilteringBoundLogger

from feedhandler import _core
from feedhandler.config import Config
from feedhandler.errors import UsageError

LAUNCHED = "FEEDHANDLER_ONLOAD_PID"
"""Names the process that was launched: it is not launched again, whatever came of it."""

MULTICAST = {"EF_MCAST_JOIN_HANDOVER": "1", "EF_MCAST_JOIN_BINDTODEVICE": "1"}
"""Without the first a line by a device that is not accelerated says that it is: onload_source.hpp."""


def launch(config: Config, log: FilteringBoundLogger) -> None:
    """Become `onload --profile=... <this command>`; return when that is not asked for, or was done.

    The process stays the same: its id, its sockets to the service manager, its environment, EF_* and all.
    Raises UsageError when the launcher is not there, if Onload is required.
    """
    onload = config.receive.onload
    if config.receive.mode != "onload" or not onload.launch or _core.onload_present():
        return
    if os.environ.get(LAUNCHED) == str(os.getpid()):
        return  # the sockets will tell what is wrong
    launcher = shutil.which(onload.launcher)
    if launcher is None:
        text = (
            f'{config.where("receive.onload.launcher")}: "{onload.launcher}" is no program that can be found'
        )
        if onload.require:
            raise UsageError(text)
        log.warning("not started under onload", why=text)
        return
    # Without its kernel module the launcher would end before us: what is missing is for us to say.
    environment = {"ONLOAD_DRIVERCHECK": "false", **MULTICAST} | os.environ | {LAUNCHED: str(os.getpid())}
    if config.receive.hardware_timestamps:
        environment.setdefault("EF_RX_TIMESTAMPING", "1")
    options = [f"--profile={onload.profile}"] if onload.profile else []
    log.info("starting again under onload", launcher=launcher, profile=onload.profile)
    os.execve(launcher, [launcher, *options, sys.executable, *sys.orig_argv[1:]], environment)  # noqa: S606
