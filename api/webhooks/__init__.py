"""News of ends, signed, for receivers that callers name."""
