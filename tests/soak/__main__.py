"""Hundreds of seeded fault schedules, and no book may be wrong while LIVE.

    make soak MINUTES=10
    python -m tests.soak --minutes 10 [--jobs N] [--seed FIRST]
    python -m tests.soak --seed 4711 --schedules 1        # one again

Prints a JSON object; it is also kept in build/soak.json. Exit status 0 only if nothing was wrong.
"""

import argparse
import json
import sys

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from benchmarks.harness import ROOT
from tests.soak.runner import MESSAGES, Soak, play, processors, program


def main() -> None:
    """Run it from the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=1, help="of the first schedule")
    parser.add_argument("--schedules", type=int, help="how many at most")
    parser.add_argument("--messages", type=int, default=MESSAGES, help="of a schedule, about")
    parser.add_argument("--jobs", type=int, default=processors())
    parser.add_argument("--sabotage", default="none", help="level, skip, state, flag, splice or clear")
    options = parser.parse_args()
    console = Console(stderr=True)
    console.print("compiling, if anything is newer", style="dim")
    program()
    seconds = 60 * options.minutes
    columns = TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn()
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("soak", total=seconds)

        def tell(soak: Soak, elapsed: float) -> None:
            applied = soak.counts.get("messages", 0)
            text = f"{soak.schedules} schedules, {applied / 1e6:.1f} M messages, {len(soak.wrong)} wrong"
            progress.update(task, completed=min(elapsed, seconds), description=text)

        soak = Soak(options.seed, options.jobs, options.messages)
        result = play(soak, seconds, options.schedules, tell, "--sabotage", options.sabotage)
    text = json.dumps(result, indent=2)
    (ROOT / "build" / "soak.json").write_text(text + "\n")
    print(text)
    for wrong in result["wrong"]:
        console.print(f"WRONG, seed {wrong['seed']}: {wrong['what']}; again: {wrong['repeat']}", style="red")
    sys.exit(1 if result["wrong"] else 0)


if __name__ == "__main__":
    main()
