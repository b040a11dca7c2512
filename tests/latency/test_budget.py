"""What the table says of the figures."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from feedhandler import _core
from feedhandler.metrics.latency import Reading, budget


@pytest.mark.parametrize(
    ("kinds", "total_ns"),
    [({"kernel": 9}, 3000), ({"hardware": 9}, 3000), ({"kernel": 5, "user": 4}, None), ({"user": 9}, None)],
)
def test_total_without_the_hop_before_the_poll_is_held_against_no_budget(
    kinds: dict[str, int], total_ns: int | None
) -> None:
    """It is for all of the way; a mode without stamps would look better than one with them."""
    facts = {
        **{"sample_every": 1, "samples": 9, "backwards": 0, "kinds": kinds, "clock": "TSC"},
        **{"ns_per_tick": 0.4, "stamp_ns": 15, "recalibrated": 0},
    }
    reader = SimpleNamespace(state=1, info=lambda: {"channel": "x"})
    hops = budget(cast(_core.ChannelReader, cast(Any, reader)), Reading(1, facts, {}))["hops"]
    assert (hops["total"]["budget_ns"], hops["decode"]["budget_ns"]) == (total_ns, 1000)
