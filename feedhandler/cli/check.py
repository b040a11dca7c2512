"""`feedhandler check`: is the file right, is the host fit for it?"""

import json
import sys
from dataclasses import asdict
from pathlib import Path

import click

from feedhandler.config import load, problems
from feedhandler.daemon.host import Finding, look
from feedhandler.runtime_dir import runtime_dir

_MARKS = {"ok": "ok     ", "warning": "warning", "error": "ERROR  "}


@click.command("check", short_help="Validate a configuration file and the host; starts nothing.")
@click.option("--config", "config_file", metavar="FILE", required=True, help="TOML file of the channel.")
@click.option(
    "--runtime-dir", "runtime_dir_option", type=click.Path(path_type=Path), help="Where channels live."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def command(config_file: str, runtime_dir_option: Path | None, as_json: bool) -> None:
    """Validate a configuration file and look at the host: what it lacks, and the remedy for each.

    Exit status: 0 the channel can run (warnings say what would make it run better), 1 something keeps it, or
    its journal, from running, 2 the file is wrong.

    \b
    Example:
      feedhandler check --config feed.toml
    """
    found = problems(config_file)
    if found:
        _print_problems(config_file, [str(problem) for problem in found], as_json=as_json)
        sys.exit(2)
    config = load(config_file)
    findings = look(config, runtime_dir(runtime_dir_option).absolute() / config.channel.name)
    if as_json:
        click.echo(
            json.dumps({"config": config_file, **_summary(findings), "findings": [*map(asdict, findings)]})
        )
    else:
        _print_findings(config_file, findings)
    sys.exit(1 if any(finding.status == "error" for finding in findings) else 0)


def _summary(findings: list[Finding]) -> dict[str, int]:
    return {
        f"{status}s": sum(finding.status == status for finding in findings) for status in ("error", "warning")
    }


def _print_problems(config_file: str, found: list[str], *, as_json: bool) -> None:
    for problem in found:
        click.echo(f"{problem}", err=True)
    if as_json:
        findings = [Finding("config", "error", problem, "correct the file") for problem in found]
        click.echo(
            json.dumps({"config": config_file, **_summary(findings), "findings": [*map(asdict, findings)]})
        )


def _print_findings(config_file: str, findings: list[Finding]) -> None:
    click.echo(f"{_MARKS['ok']}  config: {config_file}")
    for finding in findings:
        click.echo(f"{_MARKS[finding.status]}  {finding.check}: {finding.text}")
        if finding.remedy:
            click.echo(f"{'':{len(_MARKS['ok'])}}  -> {finding.remedy}")
        if finding.show and finding.status != "ok":
            click.echo(f"{'':{len(_MARKS['ok'])}}     seen by: {finding.show}")
    counts = _summary(findings)
    click.echo(", ".join(f"{n} {name if n != 1 else name[:-1]}" for name, n in counts.items()))
