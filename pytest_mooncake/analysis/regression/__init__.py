"""Is this release slower than those before: alarm from the history, confirmation in turns."""
