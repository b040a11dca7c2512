"""The exchange on this machine: order flow through a matching engine, to a file or to the network."""

from feedhandler.simulate.file import write_binaryfile

__all__ = ["write_binaryfile"]
