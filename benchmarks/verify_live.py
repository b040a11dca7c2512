"""The whole way, live, at a rate: exchange -> lossy lines -> daemon -> consumer, and nothing may be wrong.

    python -m benchmarks.verify_live --seconds 60 --network loopback
    python -m benchmarks.verify_live --seconds 60 --network veth        # root: two network namespaces
    python -m benchmarks.verify_live --seconds 60 --network veth --mode xdp

The exchange sends a seeded day at `--rate` messages a second; both lines lose, duplicate, reorder and damage
packets of their own, the re-request server loses some of its traffic; with `--repair snapshot` there is none,
and what is lost on both lines is repaired by snapshots. Compared, to the last message: the counters of each
line with what the exchange did to it, and the messages with those sent. Beside the daemon runs a checker, a
process that maps the channel as consumers do and compares every book, whenever it changes, and all of them
again and again, with an independent model of the lossless day (tests/soak/live_checker.cpp): each one read in
LIVE, and all at the end. Exit status 0 only if all of it is right.
"""

import argparse
import contextlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.harness import ROOT, build
from tests.support.daemon import COMMAND, Daemon, environment, running, write_config
from tests.support.exchange import Line
from tests.support.multicast import free_ports
from tests.support.netns import Veth, veth_pair
from tests.support.receive_modes import MODES, SOCKET, Mode, as_toml
from tests.support.wait import wait_for

GROUPS = ("239.198.1.1", "239.198.1.2")
RECOVERY = "timeout_ms = 20\nretries = 1000\nmax_outstanding = 64\nrequests_per_s = 100000\n"
FAULTS = ["--drop", "A=0.05,B=0.03", "--drop-burst", "5", "--duplicate", "0.01", "--reorder", "0.01"]
FAULTS += ["--corrupt", "0.001"]
REWIND = ["--drop-rewind", "0.05"]
ENDED = 4


@contextlib.contextmanager
def simulating(words: list[str], prefix: Sequence[str] = ()) -> Iterator["subprocess.Popen[str]"]:
    """Run `feedhandler simulate`; it prints its summary when it ends."""
    command = [*prefix, *COMMAND, "simulate", "--seed", "11", "--symbols", "500", "--json", *words]
    with subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def summary_of(process: "subprocess.Popen[str]") -> dict[str, Any]:
    """Return the summary that it prints, once it has ended."""
    said, _ = process.communicate()
    if process.returncode != 0:
        raise RuntimeError(f"simulate ended with status {process.returncode}")
    return dict(json.loads(said))


@contextlib.contextmanager
def checker(daemon: Daemon, day: Path, *words: str) -> Iterator["subprocess.Popen[str]"]:
    """Run the checker beside the daemon, attached; its result is on its standard output at the end."""
    program = build("live_checker", folder=ROOT / "tests" / "soak")
    command = [str(program), str(daemon.runtime_dir / daemon.channel), str(day), *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            if process.stdout is None or process.stdout.readline() != "ready\n":
                raise RuntimeError(f"{program} could not attach")
            yield process
        finally:
            process.kill()


def compare_counters(stat: dict[str, Any], sent: dict[str, Any], messages: int) -> list[str]:
    """Return what does not add up between the daemon's counters and the exchange's."""
    pairs = {
        "messages": (stat["messages"], messages),
        "next_sequence": (stat["next_sequence"], messages + 1),
        "state": (stat["state"], "ENDED"),
        "gaps.unrecovered": (stat["gaps"]["unrecovered"], 0),
        "gaps.open": (stat["gaps"]["open"], 0),
        "gaps.messages": (
            stat["gaps"]["messages"],
            sum(stat["gaps"][key] for key in ("recovered_line", "recovered_rewind", "recovered_snapshot")),
        ),
    }
    for name, line in sent["lines"].items():
        seen = stat["lines"][name]
        pairs |= {
            f"{name}.packets": (seen["packets"] + seen["kernel_drops"], line["delivered"]),
            f"{name}.kernel_drops": (seen["kernel_drops"], 0),
            f"{name}.malformed": (seen["malformed"], line["corrupted"]),
            f"{name}.missing": (seen["missing"], line["lost_messages"]),
            f"{name}.won + late": (seen["won"] + seen["late"], seen["messages"]),
            f"{name}.foreign_session": (seen["foreign_session"], 0),
        }
    won = sum(line["won"] for line in stat["lines"].values())
    recovered = stat["gaps"]["recovered_rewind"] + stat["gaps"]["recovered_snapshot"]
    pairs["won + recovered"] = (won + recovered, messages)
    return [f"{name}: {seen} instead of {wanted}" for name, (seen, wanted) in pairs.items() if seen != wanted]


@contextlib.contextmanager
def places(network: str) -> Iterator[tuple[list[str], list[str], str, str]]:
    """Yield (prefix of the sender, prefix of the daemon, sender's address, receiver's address)."""
    if network == "loopback":
        yield [], [], "127.0.0.1", "127.0.0.1"
        return
    with veth_pair("live") as pair:
        yield Veth.inside(pair.sender), Veth.inside(pair.receiver), pair.sender_address, pair.receiver_address


def verify(
    network: str,
    seconds: float,
    rate: int,
    *,
    spin: bool = False,
    mode: Mode = SOCKET,
    repair: str = "rewind",
    checker_words: Sequence[str] = (),
) -> dict[str, Any]:
    """Run once; the result's `wrong` lists what was not right."""
    messages = round(seconds * rate)
    with tempfile.TemporaryDirectory() as name, places(network) as (send_by, receive_by, sender, receiver):
        folder = Path(name)
        port_a, port_b, server = free_ports(3)
        lines = [Line("A", GROUPS[0], port_a), Line("B", GROUPS[1], port_b)]
        config = write_config(
            folder,
            lines,
            [(sender, server)] if repair == "rewind" else [],
            interface=receiver,
            receive=as_toml(mode.large([Veth.receiver_device])),
            recovery=RECOVERY,
            publish='schemas = ["mbo", "mbp-1", "trades"]\nring_mib = 256\n',
            extra=snapshot_table(folder, f"{sender}:{server}") if repair == "snapshot" else "",
        )
        spin = spin or mode.setting == "dpdk"  # which cannot wait
        env = mode.environment() | {"FEEDHANDLER__RECEIVE__SPIN": str(spin).lower()}
        day = folder / "day.itch"
        with simulating(["--messages", str(messages), "--output", str(day)]) as writing:
            summary_of(writing)
        with (
            running(config, folder / "run", prefix=receive_by, env=env) as daemon,
            checker(daemon, day, *checker_words) as watch,
        ):
            words = ["--messages", str(messages), "--rate", str(rate), "--burst", "20", "--linger", "1"]
            words += ["--send", ",".join(f"{line.name}={line.group}:{line.port}" for line in lines)]
            words += ["--interface", sender, *FAULTS]
            words += REWIND if repair == "rewind" else ["--linger", "10"]
            with simulating([*words, f"--{repair}", f"{sender}:{server}"], send_by) as exchange:
                reader = daemon.reader
                wait_for(
                    lambda: reader.state == ENDED or exchange.poll() is not None,
                    "the end of the session",
                    timeout_s=seconds + 120,
                    interval_s=0.02,
                )
                exchange.terminate()  # nobody needs its servers any more
                sent = summary_of(exchange)
            stat = settled(daemon)
            checked = json.loads(watch.communicate(timeout=60)[0])
            wrong = compare_counters(stat, sent, messages) + checked["wrong"]
    facts = {"network": network, "mode": mode.name, "seconds": seconds, "rate": rate, "repair": repair}
    return {**facts, "sent": sent, "stat": stat, "checked": checked, "wrong": wrong}


def snapshot_table(folder: Path, address: str) -> str:
    """Return [recovery.snapshot] of the configuration."""
    (folder / "password").write_text("secret\n")
    return f'[recovery.snapshot]\naddress = "{address}"\npassword_file = "{folder / "password"}"\n'


def settled(daemon: Daemon) -> dict[str, Any]:
    """Return the counters once the session has ended and they no longer change."""
    wait_for(lambda: daemon.reader.state == ENDED, "ENDED", timeout_s=60)
    previous: dict[str, Any] = {}
    clocks = {"ts_ns": 0, "clock": {}}  # these go on

    def same() -> bool:
        nonlocal previous
        before, previous = previous, daemon.reader.counters()
        return {**before, **clocks} == {**previous, **clocks}

    wait_for(same, "counters at rest", interval_s=0.1)
    return daemon.stat()


def main() -> None:
    """Run it from the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--rate", type=int, default=100_000, help="messages a second")
    parser.add_argument("--network", choices=["loopback", "veth"], default="loopback")
    parser.add_argument(
        "--mode", choices=[mode.name for mode in MODES], default="socket", help="others: over veth only"
    )
    parser.add_argument("--repair", choices=["rewind", "snapshot"], default="rewind")
    parser.add_argument("--spin", action="store_true", help="spin as in production; needs a core of its own")
    options = parser.parse_args()
    mode = next(mode for mode in MODES if mode.name == options.mode)
    if mode is not SOCKET and options.network != "veth":
        parser.error("--mode: needs --network veth")
    result = verify(
        options.network,
        options.seconds,
        options.rate,
        spin=options.spin,
        mode=mode,
        repair=options.repair,
    )
    print(json.dumps(result))
    sys.exit(1 if result["wrong"] else 0)


if __name__ == "__main__":
    main()
