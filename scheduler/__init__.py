"""The queue: items in Redis lanes, leases on micro-batches, results, and the loop that dispatches them."""
