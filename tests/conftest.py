"""What every test may use."""

import os
import signal
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # Started in the background of a script: what the tests start would ignore Ctrl-C too.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Return the folder of real exchange data; it is not ours to redistribute, so it may be absent."""
    path = Path(os.environ.get("FEEDHANDLER_DATA", ROOT.parent / "shared" / "data"))
    if not path.is_dir():
        pytest.skip(f"real exchange data is absent: {path} (set FEEDHANDLER_DATA)")
    return path
