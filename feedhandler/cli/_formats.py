"""Records as text, JSON lines, CSV, or a DBN stream."""

import json
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

import databento_dbn as dbn

from feedhandler.consumer import Batch, Consumer
from feedhandler.consumer.price import price_text
from feedhandler.consumer.schema import DTYPES, TRADING_DTYPE
from feedhandler.names import EVENT_NAMES, HEALTH_NAMES, STEP_NAMES, TRADING_KINDS

_UNDEF_PRICE = 2**63 - 1
_HIDDEN = ("length", "rtype", "reserved", "_reserved")


class Format(Protocol):
    """Writes batches to stdout."""

    def write(self, batch: Batch, count: int) -> None:
        """Write the first `count` records of a batch."""


def _plain(value: Any, is_price: bool) -> Any:
    if is_price:
        return None if value == _UNDEF_PRICE else price_text(value)
    return value.decode("ascii", "replace").rstrip() if isinstance(value, bytes) else value


class Rows:
    """Records as dictionaries: fields as in databento_dbn, `schema`, `symbol`; prices as text, None: none.

    An event has `event`, its name, and only the fields that it means.
    """

    def __init__(self, consumer: Consumer) -> None:
        self._consumer = consumer

    def fields(self, schema: str) -> list[tuple[str, bool]]:
        """Return (field, is it a price) for what is shown: in DBN every int64 counts 1e-9."""
        dtype = DTYPES[schema]
        shown = [name for name in dtype.names or () if not name.startswith(_HIDDEN)]
        return [(name, schema != "event" and dtype[name] == "<i8") for name in shown]

    def __call__(self, batch: Batch, count: int) -> Iterator[dict[str, Any]]:
        """Yield the first `count` records of a batch."""
        if batch.schema == "event":
            yield from self._events(batch, count)
            return
        fields, names = self.fields(batch.schema), DTYPES[batch.schema].names or ()
        shown = [(names.index(name), name, is_price) for name, is_price in fields]
        for record in batch.records[:count].tolist():
            row = {name: _plain(record[index], is_price) for index, name, is_price in shown}
            yield {
                "schema": batch.schema,
                "symbol": self._consumer.symbol(row["instrument_id"]) or "",
                **row,
            }

    def _events(self, batch: Batch, count: int) -> Iterator[dict[str, Any]]:
        events = batch.records[:count]
        for event in events:
            trading = EVENT_NAMES.get(int(event["type"])) == "trading"
            record = event.view(TRADING_DTYPE) if trading else event
            row = {name: _plain(record[name].item(), False) for name in record.dtype.names or ()}
            yield trading_row(row, self._consumer.symbol(row["instrument_id"])) if trading else event_row(row)


def trading_row(row: dict[str, Any], symbol: str | None) -> dict[str, Any]:
    """Return a trading event with the fields that its kind means."""
    from feedhandler.metrics.snapshot import STATE_NAMES

    kind = TRADING_KINDS.get(row["kind"], row["kind"])
    out = {"schema": "event", "event": "trading", "ts": row["ts"], "state": STATE_NAMES[row["state"]]}
    out |= {"symbol": symbol or "", "sequence": row["sequence"], "kind": kind}
    if kind != "broken":
        out["shares"] = row["shares"]
    if kind == "attribution":
        return out | {"participant": row["participant"]}
    out["match_number"] = row["match_number"]
    if kind == "execution":
        out["printable"] = row["detail"] != "N"
    elif kind == "cross":
        out["cross_type"] = row["detail"]
    return out


def event_row(row: dict[str, Any]) -> dict[str, Any]:
    """Return an event with the fields that its kind means."""
    from feedhandler.metrics.snapshot import STATE_NAMES

    name = EVENT_NAMES.get(row["type"], str(row["type"]))
    out = {"schema": "event", "event": name, "ts": row["ts"], "state": STATE_NAMES[row["state"]]}
    if name == "state":
        out["previous"] = STATE_NAMES[row["previous"]]
    elif name.startswith("gap_"):
        out["first"], out["last"] = row["first"], row["last"]
    elif name.startswith("line_"):
        out["line"] = row["line"]
    elif name.startswith("session_"):
        out["session"], out["next_sequence"] = row["session"].strip("\0 "), row["first"]
    elif name.startswith("snapshot_"):
        out["first"] = row["first"]
    elif name == "server":
        out["server"], out["left_until"] = row["line"], row["first"]
        out["health"], out["previous"] = HEALTH_NAMES[row["now"]], HEALTH_NAMES[row["before"]]
    elif name == "escalation":
        out["step"], out["previous"] = STEP_NAMES[row["now"]], STEP_NAMES[row["before"]]
        out["next_sequence"], out["missing"] = row["first"], row["last"]
    return out


class JsonLines:
    """One JSON object a line."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows

    def write(self, batch: Batch, count: int) -> None:
        """Write the first `count` records of a batch."""
        sys.stdout.write(
            "".join(json.dumps(row, separators=(",", ":")) + "\n" for row in self._rows(batch, count))
        )


class Csv:
    """Comma-separated values with a header line; one schema."""

    def __init__(self, rows: Rows, schema: str) -> None:
        self._rows = rows
        names = ["symbol", *(name for name, _ in rows.fields(schema))]
        sys.stdout.write(",".join(names) + "\n")

    def write(self, batch: Batch, count: int) -> None:
        """Write the first `count` records of a batch."""
        for row in self._rows(batch, count):
            values = list(row.values())[1:]  # without the schema
            sys.stdout.write(",".join("" if value is None else str(value) for value in values) + "\n")


class Text:
    """One line a record, for people."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        self._write: Callable[[str], int] = sys.stdout.write

    def write(self, batch: Batch, count: int) -> None:
        """Write the first `count` records of a batch."""
        for row in self._rows(batch, count):
            self._write(_text_line(row) + "\n")


def _text_line(row: dict[str, Any]) -> str:
    if row["schema"] == "event":
        return f"{_clock(row['ts'])} event    {row['event']} {_pairs(row, ('schema', 'event', 'ts'))}"
    head = f"{_clock(row['ts_event'])} {row['schema']:<8} {row['symbol']:<8}"
    if "side" in row and "price" in row:
        head += f" {row['action']} {row['side']} {row['size']:>7} @ {row['price'] or '-':>12}"
    if row["schema"] == "mbo":
        return f"{head} order {row['order_id']} #{row['sequence']}"
    if row["schema"] in ("mbp-1", "mbp-10"):
        bid, ask = row["bid_px_00"] or "-", row["ask_px_00"] or "-"
        return f"{head} | {row['bid_sz_00']:>6} {bid:>12} {ask:>12} {row['ask_sz_00']:<6} #{row['sequence']}"
    if row["schema"] == "trades":
        return f"{head} #{row['sequence']}"
    skip = ("schema", "symbol", "ts_event", "ts_recv", "publisher_id")
    return f"{head} {_pairs(row, skip)}"


def _pairs(row: dict[str, Any], skip: tuple[str, ...]) -> str:
    return " ".join(
        f"{key}={value}" for key, value in row.items() if key not in skip and value not in (None, "", 0)
    )


def _clock(ts_ns: int) -> str:
    return datetime.fromtimestamp(ts_ns // 10**9, UTC).strftime("%H:%M:%S.") + f"{ts_ns % 10**9:09d}"


class DbnStream:
    """A binary DBN version 3 stream: metadata, then records of one schema and nothing else.

    The mappings are those of the symbols known when it starts.
    """

    def __init__(self, consumer: Consumer, schema: str) -> None:
        self._out = sys.stdout.buffer
        self._out.write(stream_metadata(consumer, schema))

    def write(self, batch: Batch, count: int) -> None:
        """Write the first `count` records of a batch."""
        self._out.write(batch.records[:count].tobytes())
        self._out.flush()


class _Interval:
    """Duck type of databento's MappingInterval."""

    def __init__(self, start: Any, end: Any, symbol: str) -> None:
        self.start_date, self.end_date, self.symbol = start, end, symbol


class _Mapping:
    """Duck type of databento's SymbolMapping."""

    def __init__(self, raw_symbol: str, intervals: list[_Interval]) -> None:
        self.raw_symbol, self.intervals = raw_symbol, intervals


def stream_metadata(consumer: Consumer, schema: str) -> bytes:
    """Return the DBN metadata of a live stream of one schema from now on."""
    info, symbols = consumer.info, consumer.symbols()
    today = datetime.now(UTC).date()
    end = today + timedelta(days=2)  # an evening in New York is the next day in UTC
    mappings: list[Any] = [
        _Mapping(name, [_Interval(today, end, str(number))]) for number, name in symbols.items()
    ]
    metadata = dbn.Metadata(
        dataset=info["dataset"],
        start=int(datetime.now(UTC).timestamp() * 1e9),
        stype_in=dbn.SType.from_str("raw_symbol"),
        stype_out=dbn.SType.from_str("instrument_id"),
        schema=dbn.Schema.from_str(schema),
        symbols=list(symbols.values()),
        mappings=mappings,
    )
    return bytes(metadata.encode())
