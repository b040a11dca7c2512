"""A re-request server in a dictionary: what the real one must answer, without sockets, limits or clocks."""

import struct


class NaiveRewind:
    """Holds messages by number; `answer(request)` is the reply's bytes, or None for silence."""

    def __init__(self, session: bytes, messages: dict[int, bytes], max_payload: int = 1472) -> None:
        self.session, self.messages, self.max_payload = session, messages, max_payload

    def answer(self, request: bytes) -> bytes | None:
        """One reply of as many messages from the first asked for as are held in a row, asked for, and fit."""
        if len(request) != 20:
            return None
        session, first, wanted = struct.unpack(">10sQH", request)
        if session != self.session:
            return None
        blocks, count = b"", 0
        while count < wanted and first + count in self.messages:
            message = self.messages[first + count]
            if 20 + len(blocks) + 2 + len(message) > self.max_payload:
                break
            blocks += struct.pack(">H", len(message)) + message
            count += 1
        return struct.pack(">10sQH", session, first, count) + blocks if count else None
