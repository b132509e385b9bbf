"""Runs kept in SQL, so that a release can be compared with the ones before it. SQLite or PostgreSQL."""
