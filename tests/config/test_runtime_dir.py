"""The runtime directory that is taken when nothing says where."""

import os
from pathlib import Path

import pytest

from feedhandler import runtime_dir as module
from feedhandler.errors import UsageError


@pytest.fixture
def last_resort(tmp_path: Path) -> Path:
    """A directory that stands for /tmp/feedhandler-UID."""
    return tmp_path / "feedhandler-0"


def test_directory_that_is_not_there_yet(last_resort: Path) -> None:
    """The daemon will make it."""
    assert module._private(last_resort) == last_resort


def test_directory_of_one_s_own(last_resort: Path) -> None:
    """Mode 0700 and the user's."""
    last_resort.mkdir(mode=0o700)
    assert module._private(last_resort) == last_resort


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o755])
def test_directory_that_others_may_enter(last_resort: Path, mode: int) -> None:
    """Anyone may have made it in /tmp: no daemon writes there, no consumer trusts what lies there."""
    last_resort.mkdir()
    last_resort.chmod(mode)
    with pytest.raises(UsageError, match="is not a directory of your own with mode 0700"):
        module._private(last_resort)


def test_link_in_its_place(last_resort: Path) -> None:
    """A symbolic link leads wherever its maker wants."""
    last_resort.symlink_to("/")
    with pytest.raises(UsageError):
        module._private(last_resort)


def test_directory_of_another_user(last_resort: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its owner may change what lies there at any time."""
    last_resort.mkdir(mode=0o700)
    monkeypatch.setattr(os, "getuid", lambda: last_resort.stat().st_uid + 1)
    with pytest.raises(UsageError):
        module._private(last_resort)
