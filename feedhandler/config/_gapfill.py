"""The TOML file of `feedhandler gapfill`: a re-request server of one's own."""

from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator

from feedhandler.config import _checks as checks
from feedhandler.config._models import Line, Server, Table

Rate = Annotated[float, Field(gt=0, le=1e12)]


class Gapfill(Table):
    """Where to answer, from what, whom, and how much."""

    listen: checks.ServerEndpoint
    source: Literal["lines", "capture", "journal", "binaryfile"]
    file: Annotated[str, Field(validate_default=True)] = ""
    session: Annotated[checks.Session, Field(validate_default=True)] = ""
    allow: list[checks.Network] = Field(default=["127.0.0.0/8"], min_length=1)
    max_payload: Annotated[int, Field(ge=128, le=65507)] = 1472
    client_requests_per_s: Rate = 2_000.0
    client_bytes_per_s: Rate = 4_000_000.0
    requests_per_s: Rate = 50_000.0
    bytes_per_s: Rate = 100_000_000.0
    max_clients: Annotated[int, Field(ge=1, le=10_000_000)] = 4096
    store: str = ""
    store_mib: Annotated[int, Field(ge=0, le=1 << 20)] = 0

    @field_validator("file")
    @classmethod
    def _file_as_the_source_needs_it(cls, value: str, info: ValidationInfo) -> str:
        source = info.data.get("source")
        if source in ("capture", "journal", "binaryfile") and not value:
            raise ValueError(f'is missing; source "{source}" needs one')
        if source == "lines" and value:
            raise ValueError('goes with source "capture", "journal" or "binaryfile" only')
        return value

    @field_validator("session")
    @classmethod
    def _session_as_the_source_needs_it(cls, value: str, info: ValidationInfo) -> str:
        if info.data.get("source") == "binaryfile" and not value:
            raise ValueError('is missing; source "binaryfile" needs one, the file has none')
        return value


class GapfillConfig(Table):
    """The whole file."""

    gapfill: Gapfill
    line: list[Line] = Field(default=[], max_length=8, validate_default=True)
    upstream: list[Server] = Field(default=[], max_length=8)

    @field_validator("line", "upstream")
    @classmethod
    def _lines_as_the_source_needs_them(
        cls, value: list[Line] | list[Server], info: ValidationInfo
    ) -> list[Line] | list[Server]:
        gapfill = info.data.get("gapfill")
        if gapfill is None:
            return value
        if gapfill.source == "lines" and not value and info.field_name == "line":
            raise ValueError('is empty; source "lines" needs at least one')
        if gapfill.source != "lines" and value:
            raise ValueError(f'goes with source "lines", not "{gapfill.source}"')
        return value
