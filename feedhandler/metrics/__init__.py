from feedhandler.metrics.snapshot import snapshot

__all__ = ["snapshot"]
