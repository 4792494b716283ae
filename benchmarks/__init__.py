"""Figures of this machine: each module prints a table and writes JSON with its environment."""
