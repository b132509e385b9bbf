"""Which prompts share what: long documents, scenarios, conversations, traces."""
