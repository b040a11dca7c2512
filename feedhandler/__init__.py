"""Market-data feed handler: subscribe to a running channel, read its books, follow its state."""

__version__ = "0.1.0"
