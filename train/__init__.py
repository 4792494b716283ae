"""The workstation side: recordings in, trained checkpoints out; run from a checkout."""
