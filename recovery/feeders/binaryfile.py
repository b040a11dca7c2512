"""Fill a store from a BinaryFILE: `u16` big-endian length and message, record i is message i; `.gz` by
content.

A record is laid out as a MoldUDP64 message block is, so that chunks of the file go into the store as they
are.
"""

import os
import zlib
from typing import IO

from feedhandler.errors import RunError, UsageError
from recovery.feeders.files import open_plain
from recovery.store import MessageStore

_CHUNK = 1 << 20
_BLOCKS = 512  # messages appended at once


def feed_binaryfile(store: MessageStore, path: str | os.PathLike[str]) -> int:
    """Append every message of the file, numbered from 1; returns how many.

    Raises UsageError when the file cannot be read, RunError (with the offset) when its last record is
    incomplete: what came before it is in the store then.
    """
    name = os.fspath(path)
    try:
        with open_plain(path) as file:
            return _feed(store, file, name)
    except (OSError, EOFError, zlib.error) as error:
        raise UsageError(f'file: "{name}": {getattr(error, "strerror", None) or error}') from error


def _feed(store: MessageStore, file: IO[bytes], name: str) -> int:
    sequence, base, pending = 1, 0, b""
    while chunk := file.read(_CHUNK):
        pending += chunk
        offset, begin, count, size = 0, 0, 0, len(pending)
        while offset + 2 <= size:
            length = pending[offset] << 8 | pending[offset + 1]
            if length == 0 or offset + 2 + length > size or count == _BLOCKS:
                if count:
                    store.append_blocks(sequence, count, pending[begin:offset])
                    sequence, begin, count = sequence + count, offset, 0
                if length == 0:  # the end-of-session record
                    return sequence - 1
                if offset + 2 + length > size:
                    break
            offset += 2 + length
            count += 1
        if count:
            store.append_blocks(sequence, count, pending[begin:offset])
            sequence += count
        base, pending = base + offset, pending[offset:]
    if pending:
        raise RunError(f'file: "{name}": incomplete record at byte {base}, {sequence - 1} messages before it')
    return sequence - 1
