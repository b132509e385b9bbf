"""What the local stack needs of its machine: ports, paths, HTTP, logs."""
