"""The spool on disk: a SQLite database that is sound whatever happened to its file."""
