"""The exchange on this machine: order flow through a matching engine, to a file or to the network."""

from feedhandler.simulate.file import write_binaryfile, write_pcap
from feedhandler.simulate.network import NetworkSettings, Transmission
from feedhandler.simulate.options import Line

__all__ = ["Line", "NetworkSettings", "Transmission", "write_binaryfile", "write_pcap"]
