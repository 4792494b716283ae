"""The spool on disk: a SQLite database that is sound whatever happened to its file."""

from edge_asd.spool.file import SpoolFile, is_damage

__all__ = ["SpoolFile", "is_damage"]
