"""The history's database: connection, tables, rows and migrations."""
