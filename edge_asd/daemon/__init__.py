"""A device's configuration in, its scores and alarms on the broker out; only here is the order of the stages known."""

from edge_asd.daemon.daemon import Daemon

__all__ = ["Daemon"]
