"""A simulator of a model's queue: the scheduler's own policy and costs, with workers and Redis by given figures."""
