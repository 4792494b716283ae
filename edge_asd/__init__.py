"""Anomalous sound detection on edge devices: sound of a machine in, trustworthy alarms out."""

__version__ = "0.1.0"
