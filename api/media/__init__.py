"""Images that requests name: where they may come from, how they are fetched, and what is taken for an image."""
