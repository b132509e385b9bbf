"""The schema's history, one revision a file; packed with the package, run by Alembic without an ini file."""
