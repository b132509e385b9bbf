"""The measuring client: one request, one round, and what the client knows of its own error."""
