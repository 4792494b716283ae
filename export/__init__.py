"""A trained checkpoint and real clips in, a verified model bundle out."""
