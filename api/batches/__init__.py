"""Batches: files of requests that are validated, run chunk by chunk, and end as files of replies."""
