"""Every process of a site killed at random moments; the thousand are a command, benchmarks/verify_kill.py."""

from benchmarks.verify_kill import VICTIMS, verify


def test_killed_processes_come_back_with_right_books_and_whole_files() -> None:
    """Both ways to books, a daemon killed while it starts; a consumer sees each death of the daemon.

    The seed is one whose eight kills take all four kinds of process.
    """
    result = verify(8, seed=14, per_round=4)
    assert result["wrong"] == []
    kills = result["of"]
    assert set(kills) == {*VICTIMS, "daemon and helpers", "daemon while it starts"}
    assert result["dead_ms"]["count"] == kills["daemon"] + kills["daemon and helpers"]
    assert result["live_s"]["count"] == result["dead_ms"]["count"]
