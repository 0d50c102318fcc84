"""Files that callers hand in and fetch: where they lie, and how they get there."""
