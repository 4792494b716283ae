"""Faults from outside against the real daemon and a real Mosquitto: what is lost, and how soon it goes on."""
