"""Small grammars: rates, bytes, seconds."""
