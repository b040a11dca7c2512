"""Files of records, by schema and trading day, from a journal or a capture."""
