"""`feedhandler export`: not in this build."""

import click

from feedhandler.errors import NotInThisBuildError


@click.command(short_help="Derive .dbn.zst files from a journal (not in this build).")
@click.argument("journal")
@click.option("-o", "--output", "directory", required=True, metavar="DIR", help="Where the files go.")
def command(journal: str, directory: str) -> None:
    """Derive .dbn.zst files from JOURNAL.

    Not in this build: the command says so and exits with status 2. `feedhandler replay FILE --dbn DIR` writes
    DBN files from a capture.

    \b
    Example:
      feedhandler export /var/lib/feedhandler/journal -o dbn
    """
    raise NotInThisBuildError(
        f'export: "{journal}" -o "{directory}": export is not in this build; replay --dbn reads captures'
    )
