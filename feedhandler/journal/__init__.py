"""The journal: raw packets of every line as pcap segments, written by a process of its own."""
