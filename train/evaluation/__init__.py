"""Scores of a trained network in; figures, submission files and a report out."""
