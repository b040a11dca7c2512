"""Environment overrides: FEEDHANDLER__RECEIVE__CPU=1, FEEDHANDLER__LINE__0__INTERFACE=eth1.

Names in capitals, parts joined by two underscores, list entries by their index from 0 (the one after the last
appends); a list of plain values is set whole: FEEDHANDLER__PUBLISH__SYMBOLS='["AAPL"]'.
A value for a text key is taken as it is; any other is read as TOML.
"""

import tomllib
from collections.abc import Mapping
from typing import Any, get_args

from pydantic import BaseModel

from feedhandler.config._describe import key_name, show, table_model

PREFIX = "FEEDHANDLER__"


class OverrideError(Exception):
    """A variable that names no key; `variable`, `key` (may be empty) and `text` say which and why."""

    def __init__(self, variable: str, key: str, text: str) -> None:
        super().__init__(text)
        self.variable, self.key, self.text = variable, key, text


def apply(document: dict[str, Any], environ: Mapping[str, str], model: type[BaseModel]) -> dict[str, str]:
    """Change `document`, a file of that model, in place; return {key: variable} of what was set.

    Raises OverrideError for a variable that names no key.
    """
    applied = {}
    for variable in sorted(name for name in environ if name.startswith(PREFIX)):
        parts = variable.removeprefix(PREFIX).lower().split("__")
        location = _set(document, model, variable, parts, environ[variable])
        applied[key_name(location)] = variable
    return applied


def _set(
    table: dict[str, Any], model: type[BaseModel], variable: str, parts: list[str], text: str
) -> list[str | int]:
    key, *rest = parts
    if key not in model.model_fields:
        raise OverrideError(variable, "", f"names no key; known here: {', '.join(model.model_fields)}")
    inner = table_model(model, key)
    if not rest:
        table[key] = _value(model, key, text)
        return [key]
    if inner is None:
        raise OverrideError(variable, "", f"names no key; {key} has no keys of its own")
    if not _is_list(model, key):
        return [key, *_set(_table_at(table, key, variable), inner, variable, rest, text)]
    index, *rest = rest
    if not rest:
        keys = ", ".join(inner.model_fields)
        raise OverrideError(variable, "", f"names a whole entry of {key}; name one of its keys: {keys}")
    entries = table.setdefault(key, [])
    if not isinstance(entries, list):
        raise OverrideError(variable, key, f"{show(entries)} is not a list")
    if not index.isascii() or not index.isdigit() or int(index) > len(entries):
        raise OverrideError(variable, "", f'"{index}" is not an index of {key} (0 to {len(entries)})')
    if int(index) == len(entries):
        entries.append({})
    entry = entries[int(index)]
    if not isinstance(entry, dict):
        raise OverrideError(variable, f"{key}[{index}]", f"{show(entry)} is not a table")
    return [key, int(index), *_set(entry, inner, variable, rest, text)]


def _table_at(table: dict[str, Any], key: str, variable: str) -> dict[str, Any]:
    inner = table.setdefault(key, {})
    if not isinstance(inner, dict):
        raise OverrideError(variable, key, f"{show(inner)} is not a table")
    return inner


def _is_list(model: type[BaseModel], key: str) -> bool:
    return "list[" in str(model.model_fields[key].annotation)


def _value(model: type[BaseModel], key: str, text: str) -> Any:
    annotation = model.model_fields[key].annotation
    if annotation is str or any(isinstance(allowed, str) for allowed in get_args(annotation)):
        return text
    try:
        document = tomllib.loads(f"value = {text}")
    except (tomllib.TOMLDecodeError, RecursionError):
        return text  # the check of the key says what it is not
    return document["value"] if len(document) == 1 else text
