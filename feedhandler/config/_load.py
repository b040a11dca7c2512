"""Reads the TOML file, applies the environment's overrides, turns each fault into a line naming the key."""

import json
import os
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

from pydantic import BaseModel, ValidationError

from feedhandler.config import _overrides
from feedhandler.config._describe import describe, key_name
from feedhandler.config._gapfill import GapfillConfig
from feedhandler.config._models import Config, Line
from feedhandler.errors import UsageError

M = TypeVar("M", bound=BaseModel)


class Problem(NamedTuple):
    """One fault of a configuration."""

    source: str
    """The file, or the environment variable that set the key."""
    key: str
    """As in `line[1].group`; empty when the file as a whole is at fault."""
    text: str
    """The value and what is allowed."""

    def __str__(self) -> str:
        return ": ".join(part for part in (self.source, self.key, self.text) if part)


def load(path: str | os.PathLike[str], environ: Mapping[str, str] = os.environ) -> Config:
    """Return the validated configuration of `path`; FEEDHANDLER__TABLE__KEY variables override its keys.

    Raises UsageError with one line for the first fault (see `problems` for all of them).
    """
    config, found = _read(path, environ)
    if found or config is None:
        raise UsageError(str(found[0]))
    return config


def problems(path: str | os.PathLike[str], environ: Mapping[str, str] = os.environ) -> list[Problem]:
    """Return every fault of the file, in the order of its keys; empty when `load` would accept it."""
    return _read(path, environ)[1]


def load_gapfill(path: str | os.PathLike[str], environ: Mapping[str, str] = os.environ) -> GapfillConfig:
    """Return the validated configuration of `feedhandler gapfill`; the same rules as `load`."""
    config, found, _ = _validate(path, environ, GapfillConfig)
    if config is not None:
        found += [Problem(os.fspath(path), key, text) for key, text in _repeated_line_names(config.line)]
    if found or config is None:
        raise UsageError(str(found[0]))
    return config


def _read(path: str | os.PathLike[str], environ: Mapping[str, str]) -> tuple[Config | None, list[Problem]]:
    source = os.fspath(path)
    config, found, overridden = _validate(path, environ, Config)
    if config is not None:
        config.came_from(source, overridden)
        found += [Problem(source, key, text) for key, text in _repeated_line_names(config.line)]
        found += [
            Problem(_set_by(key, overridden, source), key, text) for key, text in _contradictions(config)
        ]
    return config, found


def _set_by(key: str, overridden: Mapping[str, str], source: str) -> str:
    """Return the variable that set the key, or the list that it is an entry of, else the file."""
    return overridden.get(key) or overridden.get(key.rpartition("[")[0]) or source


def _validate(
    path: str | os.PathLike[str], environ: Mapping[str, str], model: type[M]
) -> tuple[M | None, list[Problem], dict[str, str]]:
    """Return the configuration, what is wrong with it, and which variables set which keys."""
    source = os.fspath(path)
    try:
        document = tomllib.loads(Path(path).read_bytes().decode())
    except OSError as error:
        return None, [Problem(source, "", f"cannot be read: {(error.strerror or str(error)).lower()}")], {}
    except UnicodeDecodeError as error:
        return None, [Problem(source, "", f"is not UTF-8 text (byte {error.start})")], {}
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        return None, [Problem(source, "", f"is not TOML: {str(error).splitlines()[0]}")], {}
    except ValueError as error:  # a NUL in the path
        return None, [Problem(json.dumps(source), "", f"cannot be read: {error}")], {}

    try:
        overridden = _overrides.apply(document, environ, model)
    except _overrides.OverrideError as error:
        return None, [Problem(error.variable, error.key, error.text)], {}
    try:
        config = model.model_validate(document)
    except ValidationError as error:
        found = []
        for detail in error.errors(include_url=False):
            key, text = describe(detail, model)
            found.append(Problem(_set_by(key_name(detail["loc"]), overridden, source), key, text))
        return None, found, overridden
    return config, [], overridden


def _repeated_line_names(lines: Sequence[Line]) -> list[tuple[str, str]]:
    seen: dict[str, int] = {}
    found = []
    for index, line in enumerate(lines):
        first = seen.setdefault(line.name, index)
        if first != index:
            found.append((f"line[{index}].name", f'"{line.name}" is the name of line[{first}] already'))
    return found


def _repeated_lines(lines: Sequence[Line]) -> list[tuple[str, str]]:
    seen: dict[tuple[str, int, str, str], int] = {}
    found = []
    for index, line in enumerate(lines):
        first = seen.setdefault((line.group, line.port, line.interface, line.source), index)
        if first != index:
            where = f'"{line.group}", port {line.port} on "{line.interface}"'
            found.append(
                (f"line[{index}].group", f"{where} is line[{first}] already: each packet would come twice")
            )
    return found


def _contradictions(config: Config) -> list[tuple[str, str]]:
    """Return what does not go together: a key, and why."""
    found = _repeated_lines(config.line)
    if config.receive.mode == "dpdk":
        if not config.receive.spin:
            found.append(("receive.spin", 'false does not go with receive.mode "dpdk": it can only poll'))
        if not config.receive.dpdk.ports:
            found.append(("receive.dpdk.ports", 'is empty; receive.mode "dpdk" needs one for each device'))
    zmq = config.publish.zmq
    if zmq and zmq.endpoint == zmq.snapshot_endpoint:
        found.append(("publish.zmq.snapshot_endpoint", f'"{zmq.endpoint}" is publish.zmq.endpoint already'))
    return found
