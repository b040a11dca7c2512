"""Gap recovery: message store, re-request server, choice among servers."""
