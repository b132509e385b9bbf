"""Words and numbers of both languages, and how foreign text is made harmless."""
