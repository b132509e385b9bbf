"""Runs kept in SQL, so that a release can be compared with the ones before it. SQLite or PostgreSQL."""

DEFAULT_URL = "sqlite:///mooncake-history.sqlite"
"""The history where none is named, a file in the directory of invocation; here, so that asking for it is cheap."""
