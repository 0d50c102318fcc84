"""A virtual clock around the scheduler's own window, policy, turns, roster and cost."""
