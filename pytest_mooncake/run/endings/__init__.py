"""How a run ends against its will: signals, and errors of this package itself."""
