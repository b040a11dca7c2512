"""What fills a message store: a capture, a BinaryFILE, or the live lines."""
