"""What must be true at the end of the demo."""

from dataclasses import dataclass

from feedhandler import FeedState
from feedhandler.demo.scenario import DemoSettings, Outcome


@dataclass(frozen=True)
class Check:
    """One thing promised, whether it held, and the figure that shows it."""

    promise: str
    held: bool
    shown: str


def verdict(settings: DemoSettings, outcome: Outcome) -> list[Check]:
    """Judge the outcome."""
    gaps, before = outcome.stat["gaps"], outcome.stat_before_kill["gaps"]
    holes = gaps["total"] + before["total"]
    from_lines = gaps["recovered_line"] + before["recovered_line"]
    from_server = gaps["recovered_rewind"] + before["recovered_rewind"]
    lost = gaps["unrecovered"] + before["unrecovered"]
    lines_lost = _lost(outcome)
    equal = outcome.compared_books - len(outcome.wrong_books)
    applied = outcome.stat["messages"]
    checks = [
        Check(
            "both lines lost packets",
            bool(lines_lost) and min(lines_lost.values()) > 0,
            ", ".join(f"{name}: {count:,} messages" for name, count in lines_lost.items()),
        ),
        Check(
            "every hole was found and filled",
            holes > 0 and lost == 0 and gaps["open"] == 0,
            f"{holes} holes; {from_lines:,} messages from the other line, "
            f"{from_server:,} re-requested, {lost} lost",
        ),
        Check(
            "every message was applied, in order",
            applied == settings.messages,
            f"{applied:,} of {settings.messages:,}",
        ),
        Check("the session ended complete", outcome.final_state == FeedState.ENDED, outcome.final_state.name),
        Check(
            "every book is right",
            outcome.compared_books > 0 and not outcome.wrong_books,
            f"{equal} of {outcome.compared_books} equal the exchange's",
        ),
    ]
    for name in ("strategy", "risk"):
        refused, resumed = outcome.refused.get(name), outcome.resumed.get(name)
        shown = "it did not"
        if refused:
            shown = (
                f"{(refused['at_ns'] - outcome.killed_at_ns) / 1e6:.1f} ms after kill -9: {refused['reason']}"
            )
        checks.append(Check(f"{name} refused when the daemon died", refused is not None, shown))
        shown = "it did not"
        if resumed:
            shown = f"{(resumed['at_ns'] - outcome.restarted_at_ns) / 1e9:.1f} s after the restart"
        checks.append(Check(f"{name} acted again once the books were right", resumed is not None, shown))
    return checks


def _lost(outcome: Outcome) -> dict[str, int]:
    """Return the messages that the exchange says it lost, by line."""
    return {name: line["lost_messages"] for name, line in outcome.exchange.get("lines", {}).items()}
