"""What runs without a client that waits: jobs, batches, and the webhooks that tell of their ends."""
