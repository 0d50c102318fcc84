"""The small parts that model families are built from; each loads its own weights."""
