"""The choice among re-request servers: in order of preference, leaving out for a while those that do not
answer.

Silence is the only sign of trouble that the protocol has, and also the answer to a request for what a server
does not hold: so one silence proves nothing, and a server that is left out gets another chance later.
"""

from collections.abc import Sequence
from dataclasses import dataclass

TIMEOUTS_BEFORE_REST = 3
FIRST_REST_S = 1.0
LONGEST_REST_S = 60.0


@dataclass(frozen=True)
class Health:
    """What is known of one server: requests in a row without an answer, and until when it is left out."""

    timeouts: int = 0
    rest_until_s: float = 0.0


def answered() -> Health:
    """Return the health of a server that has just answered: nothing is held against it."""
    return Health()


def timed_out(health: Health, now_s: float) -> Health:
    """Return the health after one more silence.

    From the third on each rest is twice as long as the one before.
    """
    timeouts = health.timeouts + 1
    if timeouts < TIMEOUTS_BEFORE_REST:
        return Health(timeouts)
    doublings = min(timeouts - TIMEOUTS_BEFORE_REST, 16)
    return Health(timeouts, now_s + min(LONGEST_REST_S, FIRST_REST_S * 2**doublings))


def choose(servers: Sequence[Health], now_s: float, tried: frozenset[int] = frozenset()) -> int | None:
    """Return the index of the server to ask: the most preferred that neither rests nor was tried.

    None without one.
    """
    for index, health in enumerate(servers):
        if index not in tried and health.rest_until_s <= now_s:
            return index
    return None
