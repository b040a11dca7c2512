"""What users can set, see and rely on is written down: found in the code, looked for in the documents."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from pydantic import BaseModel

from feedhandler import _core
from feedhandler.cli import COMMANDS, cli
from feedhandler.config import Config, GapfillConfig
from feedhandler.config._describe import table_model
from feedhandler.daemon._events import _EVENTS
from feedhandler.metrics.exporter import JOURNAL_COUNTERS
from recovery.server import COUNTER_HELP

ROOT = Path(__file__).resolve().parents[2]
CHANGELOG = (ROOT / "CHANGELOG.md").read_text()
DOCS = {path.name: path.read_text() for path in (ROOT / "docs").glob("*.md")}
LOG_METHODS = {"info", "warning", "error"}


def words(text: str) -> set[str]:
    """Return everything that may be a name."""
    return set(re.findall(r"[A-Za-z_][A-Za-z0-9_]*", text))


def keys(model: type[BaseModel]) -> Iterator[str]:
    """Yield every key of a file, whatever its table."""
    for name in model.model_fields:
        yield name
        if inner := table_model(model, name):
            yield from keys(inner)


def logged_events() -> set[str]:
    """Return the first words of every call of a log's methods in the product."""
    found = {event for event, _, _ in _EVENTS.values()}
    for path in [*(ROOT / "feedhandler").rglob("*.py"), *(ROOT / "recovery").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute) or not node.args:
                continue
            is_log = node.func.attr in LOG_METHODS and "log" in ast.unparse(node.func.value)
            if is_log and isinstance(node.args[0], ast.Constant):
                found.add(str(node.args[0].value))
    return found


@pytest.mark.parametrize(
    ("model", "document"),
    [(Config, "configuration.md"), (GapfillConfig, "gapfill.md")],
    ids=["run", "gapfill"],
)
def test_every_key_is_documented(model: type[BaseModel], document: str) -> None:
    """In the command's document and in the changelog."""
    for where, text in ((document, DOCS[document]), ("CHANGELOG.md", CHANGELOG)):
        assert set(keys(model)) - words(text) == set(), where


def test_every_counter_is_in_the_changelog() -> None:
    """Those of the feed, of its journal and of gapfill."""
    of_feed = {name for group in _core.counter_descriptions().values() for name in group}
    assert (of_feed | set(JOURNAL_COUNTERS) | set(COUNTER_HELP)) - words(CHANGELOG) == set()


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_is_in_the_changelog_and_every_command_has_an_example(name: str) -> None:
    """Help tells how the command is used; nothing can be given that no document names."""
    context = click.Context(cli)
    command = cli.get_command(context, name)
    assert command is not None
    options = {o for p in command.params if isinstance(p, click.Option) for o in p.opts if o[:2] == "--"}
    known = set(re.findall(r"--[a-z-]+", CHANGELOG)) | {"--help", "--output"}
    assert options - known == set()
    assert re.search(rf"feedhandler {name}\b", command.get_help(context).split("xample", 1)[1])


def test_every_event_in_the_log_is_documented() -> None:
    """For those who set alarms on them."""
    events, text = logged_events(), "\n".join(DOCS.values())
    assert len(events) > 30
    assert {event for event in events if f"`{event}`" not in text} == set()
    assert {event for event in events if not words(event) <= words(CHANGELOG)} == set()


def test_links_between_the_documents_lead_somewhere() -> None:
    """To files that are there."""
    files = [
        ROOT / "README.md",
        ROOT / "CHANGELOG.md",
        *(ROOT / "docs").glob("*.md"),
        ROOT / "pcaps" / "README.md",
    ]
    for path in files:
        for target in re.findall(r"\]\((?!https?:)([^)#\s]*)(?:#[^)\s]*)?\)", path.read_text()):
            assert target == "" or (path.parent / target).exists(), f"{path.name}: {target}"
