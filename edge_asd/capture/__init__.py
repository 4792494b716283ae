"""A sound card or recorded clips in, blocks of samples at 16 kHz out.

Nothing is imported here: the process that records runs from this package and is kept small.
"""
