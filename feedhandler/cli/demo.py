"""`feedhandler demo`: the whole way in one command."""

import dataclasses
import json

import click
from rich.console import Console
from rich.live import Live

from feedhandler.errors import RunError


@click.command(
    "demo", short_help="Exchange, daemon and two consumers on loopback; ends by itself with a verdict."
)
@click.option(
    "--seconds", type=click.FloatRange(5, 600), default=20.0, show_default=True, help="Length of the session."
)
@click.option(
    "--rate", type=click.IntRange(1000, 200_000), default=20_000, show_default=True, help="Messages a second."
)
@click.option(
    "--drop",
    type=click.FloatRange(0, 0.5),
    default=0.05,
    show_default=True,
    help="Share of packets each line loses.",
)
@click.option(
    "--seed",
    type=click.IntRange(0),
    default=1,
    show_default=True,
    help="Same seed, same order flow and losses.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the verdict as one JSON object.")
def command(seconds: float, rate: int, drop: float, seed: int, as_json: bool) -> None:
    """Watch the whole way: an exchange, two lossy lines, the daemon, a strategy and a risk process.

    Everything runs on this machine's loopback, unprivileged, in processes of its own. In the middle the
    daemon is killed as by a crash: the strategy and the risk monitor must refuse to act until it is back
    and its books are right again. At the end every book is compared with the exchange's. Exit status 0 when
    all promises held.

    \b
    Examples:
      feedhandler demo
      feedhandler demo --rate 50000 --drop 0.2 --json
    """
    from feedhandler.demo import Demo, DemoSettings, verdict
    from feedhandler.demo.view import picture, verdict_table

    settings = DemoSettings(seconds=seconds, rate=rate, drop=drop, seed=seed)
    progress = Console(stderr=True)
    with Demo(settings) as demo:
        if progress.is_terminal:
            with Live(console=progress, auto_refresh=False, transient=False) as live:
                for _ in demo.run():
                    live.update(picture(demo), refresh=True)
        else:
            told = ""
            for _ in demo.run():
                if demo.step != told:
                    told = demo.step
                    click.echo(told, err=True)
        checks = verdict(settings, demo.outcome)
    if as_json:
        click.echo(
            json.dumps(
                {"held": all(c.held for c in checks), "checks": [dataclasses.asdict(c) for c in checks]}
            )
        )
    else:
        Console().print(verdict_table(checks))
    if broken := [check.promise for check in checks if not check.held]:
        raise RunError("not held: " + "; ".join(broken))
