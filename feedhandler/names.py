"""Words for the numbers of the core. Without numpy: the daemon starts, and runs, without it."""

TRADING_KINDS = {
    "E": "execution",
    "P": "print",
    "X": "cross",
    "B": "broken",
    "A": "attribution",
}
"""`kind` of a trading event, as in core/event.hpp."""

EVENT_NAMES = {
    1: "state",
    2: "gap_open",
    3: "gap_closed",
    4: "gap_lost",
    5: "line_down",
    6: "line_up",
    7: "session_start",
    8: "session_end",
    9: "snapshot_begin",
    10: "snapshot_end",
    11: "trading",
    12: "server",
    13: "escalation",
}
"""`type` of an event record, as in core/event.hpp."""

NATIVE_EVENTS = {"trading", "server", "escalation"}
"""Events for readers of shared memory and the log only: ZeroMQ's feed topic has a fixed list."""

KIND_NAMES = ("none", "user", "kernel", "hardware")
"""Who told a datagram's time, by number."""

HEALTH_NAMES = ("untried", "answered", "late", "silent", "refused", "lying")
"""What a re-request server did last: `now` and `before` of a server event."""

STEP_NAMES = ("none", "other_line", "request", "retry", "next_server", "hopeless", "snapshot", "stale")
"""How far the answer to a loss has gone: `now` and `before` of an escalation event."""
