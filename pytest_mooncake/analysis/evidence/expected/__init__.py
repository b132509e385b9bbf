"""What a prompt must leave in a store and bring back: chunks, formulae, what is served to everybody."""
