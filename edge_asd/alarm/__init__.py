"""Scores and operators' commands in, the life of one machine's alarms out."""
