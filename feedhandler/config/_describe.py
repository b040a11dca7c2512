"""Words for pydantic's errors: the key as it stands in the file, the value, and what is allowed."""

import datetime
import json
import re
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel
from pydantic_core import ErrorDetails

_TYPES = {
    "string_type": "is not a string",
    "int_type": "is not an integer",
    "int_from_float": "is not an integer",
    "float_type": "is not a number",
    "bool_type": "is not true or false",
    "list_type": "is not a list",
    "dict_type": "is not a table",
    "model_type": "is not a table",
    "model_attributes_type": "is not a table",
    "finite_number": "is not a finite number",
}
_BOUNDS = {
    "greater_than_equal": ("ge", "is less than"),
    "greater_than": ("gt", "is not more than"),
    "less_than_equal": ("le", "is more than"),
    "less_than": ("lt", "is not less than"),
}


def key_name(location: Sequence[str | int]) -> str:
    """Return `line[1].group` for ("line", 1, "group")."""
    name = ""
    for part in location:
        if isinstance(part, int):
            name += f"[{part}]"
        else:
            bare = part if re.fullmatch(r"[A-Za-z0-9_-]+", part) else json.dumps(part)
            name += f".{bare}" if name else bare
    return name


def show(value: object) -> str:
    """Return a value as TOML would write it, on one line and not too long."""
    if isinstance(value, datetime.datetime | datetime.date | datetime.time):
        return value.isoformat()
    try:
        text = json.dumps(value, default=str)
    except (ValueError, RecursionError):
        text = f"a {type(value).__name__}"
    return text if len(text) <= 120 else text[:117] + "..."


def describe(detail: ErrorDetails, file_model: type[BaseModel]) -> tuple[str, str]:
    """Return (key, what is wrong) of one of pydantic's errors about a file of that model."""
    key = key_name(detail["loc"])
    kind = detail["type"]
    context: dict[str, Any] = detail.get("ctx", {})
    value = show(detail["input"])
    if kind == "missing":
        return key, "is missing; it is required"
    if kind == "extra_forbidden":
        return key, f"is not a known key; known here: {', '.join(_keys_beside(detail['loc'], file_model))}"
    if kind == "literal_error":
        return key, f"{value} is not one of {_allowed(context['expected'])}"
    if kind == "value_error":
        return key, f"{value} {context['error']}"
    if kind in _BOUNDS:
        if detail["loc"][-1] == "port":
            return key, f"{value} is not a port (1 to 65535)"
        name, phrase = _BOUNDS[kind]
        return key, f"{value} {phrase} {context[name]}"
    if kind == "too_short":
        return key, f"has {context['actual_length']} entries; at least {context['min_length']} needed"
    if kind == "too_long":
        return key, f"has too many entries; at most {context['max_length']} allowed"
    return key, f"{value} {_TYPES.get(kind, detail['msg'].lower())}"


def _allowed(expected: str) -> str:
    return expected.replace("'", '"').replace(" or ", ", ")


def _keys_beside(location: Sequence[str | int], model: type[BaseModel]) -> list[str]:
    for part in location[:-1]:
        if isinstance(part, str):
            model = table_model(model, part) or model
    return list(model.model_fields)


def table_model(model: type[BaseModel], key: str) -> type[BaseModel] | None:
    """Return the model of the table (or list of tables) at `key`, None when it holds a plain value."""
    return next((m for m in _mentioned(model.model_fields[key].annotation) if issubclass(m, BaseModel)), None)


def _mentioned(annotation: Any) -> list[type]:
    arguments = getattr(annotation, "__args__", None)
    if arguments is None:
        return [annotation] if isinstance(annotation, type) else []
    return [found for argument in arguments for found in _mentioned(argument)]
