"""What prompts are made of: token ids, words, a user's own text."""
