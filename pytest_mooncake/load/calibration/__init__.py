"""What the measuring client knows of its own error, by a server whose truth is known."""
