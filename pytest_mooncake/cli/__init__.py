"""What `pytest-mooncake` does beside starting stacks, one command a module; `cli` puts them together."""
