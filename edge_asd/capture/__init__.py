"""A sound card or recorded clips in, blocks of samples at 16 kHz out."""
