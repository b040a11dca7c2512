"""The Onload side of `feedhandler check`: launcher, library, kernel module, and what is accelerated."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from feedhandler import _core
from feedhandler.config import Config
from feedhandler.daemon._finding import Finding, error, ok, warning
from feedhandler.daemon._host_network import line_settings

DEVICE = Path("/dev/onload")


def look(config: Config) -> Iterator[Finding]:
    """Yield what Onload lacks; without `receive.onload.require` that costs speed only."""
    onload = config.receive.onload
    lacks = error if onload.require else warning
    if onload.launch:
        launcher = shutil.which(onload.launcher)
        if launcher:
            yield ok("receive.onload.launcher", f"{launcher} starts the daemon")
        else:
            text = f'"{onload.launcher}" is no program that can be found'
            yield lacks("receive.onload.launcher", text, "install Onload, or name its launcher with its path")
    if not DEVICE.exists():
        yield lacks(str(DEVICE), "is not there: Onload's kernel module is not loaded", "onload_tool reload")
    elif not os.access(DEVICE, os.R_OK | os.W_OK):
        yield lacks(
            str(DEVICE), "may not be opened by this user", "ONLOAD_GROUP in /etc/sysconfig/openonload"
        )
    else:
        yield ok(str(DEVICE), "can be opened")
    relative = [name for name in _preloaded() if "/" in name and not name.startswith("/")]
    if relative:
        text = f"{relative[0]} is lost when the directory changes"
        yield warning("LD_PRELOAD", text, "give it with its whole path")
    if _core.onload_present() and os.environ.get("EF_MCAST_JOIN_HANDOVER") != "1":
        text = "is not 1: a line by a device that is not accelerated may say that it is"
        yield warning("EF_MCAST_JOIN_HANDOVER", text, "EF_MCAST_JOIN_HANDOVER=1 in the environment of both")
    if _core.onload_present():
        yield from _accelerated(config)
    elif not onload.launch:
        text = (
            "Onload is not in this process, so the daemon is not accelerated if it is started in the same way"
        )
        remedy = "start both under `onload`, or set receive.onload.launch = true"
        yield lacks("receive.onload.launch", text, remedy)


def _preloaded() -> list[str]:
    return os.environ.get("LD_PRELOAD", "").replace(":", " ").split()


def _accelerated(config: Config) -> Iterator[Finding]:
    settings = config.receive.model_dump()
    settings["onload"]["require"] = False
    lines = [line_settings(line) for line in config.line]
    try:
        source = _core.Source(lines, settings)
    except RuntimeError as failure:
        yield error("receive.mode", str(failure), "see the findings above")
        return
    lacks = error if config.receive.onload.require else warning
    for index in range(len(lines)):
        if source.stats(index)["accelerated"]:
            yield ok(f"line[{index}]", "accelerated by Onload")
        else:
            remedy = "a device that Onload accelerates, its kernel module, or receive.onload.require = false"
            yield lacks(f"line[{index}]", f"not accelerated: {_core.why_not_accelerated()}", remedy)
