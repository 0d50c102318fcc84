"""The bulk commands, `millpond score|embed|rerank`: files of records in, the same records with new columns out."""
