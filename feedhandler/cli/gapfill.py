"""`feedhandler gapfill`: a re-request server of one's own."""

from pathlib import Path

import click

from feedhandler.config import load_gapfill


@click.command(
    "gapfill",
    short_help="A re-request (gap-fill) server, fed by a capture, a journal, a BinaryFILE or the live lines.",
)
@click.option("--config", "config_file", metavar="FILE", required=True, help="TOML file, see below.")
def command(config_file: str) -> None:
    """Answer MoldUDP64 re-requests until SIGTERM or SIGINT.

    Each request gets at most one datagram, from listed networks only, within limits for each client and for
    all together; whatever is not answered is dropped in silence and counted by its reason. The log on stderr
    tells the counters when they change, every 10 seconds, and at the end.

    \b
    Example:
      feedhandler gapfill --config gapfill.toml

    \b
    gapfill.toml (listen and source are required; the other keys have the values shown):
      [gapfill]
      listen = "127.0.0.1:26500"      # the address to answer on
      source = "lines"                # "lines", "capture", "journal" or "binaryfile"
      file = ""                       # of source "capture" (needs feedhandler[captures]), "journal" (the
                                      # directory; needs the same) or "binaryfile"
      session = ""                    # "" = the first one seen, then the next; needed for "binaryfile"
      allow = ["127.0.0.0/8"]         # networks that are answered
      max_payload = 1472              # bytes of a reply, at most
      client_requests_per_s = 2000    # for each address
      client_bytes_per_s = 4000000
      requests_per_s = 50000          # for all together
      bytes_per_s = 100000000
      max_clients = 4096              # addresses remembered
      store = ""                      # a file that a restart goes on with; "" = memory
      store_mib = 0                   # keep the newest only; 0 = the whole session

    \b
      [[line]]                        # for source "lines", as in a channel's file
      name = "A"
      group = "233.54.12.111"
      port = 26477
      interface = "127.0.0.1"
      source = ""
      [[upstream]]                    # servers asked for what the lines lost, in order of preference
      address = "192.0.2.10:26500"
    """
    config = load_gapfill(config_file)

    from feedhandler.daemon._log import open_log
    from recovery.gapfill import run

    run(config, open_log(Path(config_file).stem))
