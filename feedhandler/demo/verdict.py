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
    checks = [
        Check("both lines lost packets", _lost(outcome) != {} and min(_lost(outcome).values()) > 0,
              ", ".join(f"{name}: {lost:,} messages" for name, lost in _lost(outcome).items())),
        Check("every hole was found and filled", holes > 0 and lost == 0 and gaps["open"] == 0,
              f"{holes} holes; {from_lines:,} messages from the other line, {from_server:,} re-requested, {lost} lost"),
        Check("every message was applied, in order", outcome.stat["messages"] == settings.messages,
              f"{outcome.stat['messages']:,} of {settings.messages:,}"),
        Check("the session ended complete", outcome.final_state == FeedState.ENDED, outcome.final_state.name),
        Check("every book is right", outcome.compared_books > 0 and not outcome.wrong_books,
              f"{outcome.compared_books - len(outcome.wrong_books)} of {outcome.compared_books} equal the exchange's"),
    ]  # fmt: skip
    for name in ("strategy", "risk"):
        refused, resumed = outcome.refused.get(name), outcome.resumed.get(name)
        after_ms = (refused["at_ns"] - outcome.killed_at_ns) / 1e6 if refused else 0.0
        checks.append(Check(f"{name} refused when the daemon died", refused is not None,
                            f"{after_ms:.1f} ms after kill -9: {refused['reason']}" if refused else "it did not"))  # fmt: skip
        back_s = (resumed["at_ns"] - outcome.restarted_at_ns) / 1e9 if resumed else 0.0
        checks.append(Check(f"{name} acted again once the books were right", resumed is not None,
                            f"{back_s:.1f} s after the restart" if resumed else "it did not"))  # fmt: skip
    return checks


def _lost(outcome: Outcome) -> dict[str, int]:
    """Return the messages that the exchange says it lost, by line."""
    return {name: line["lost_messages"] for name, line in outcome.exchange.get("lines", {}).items()}
