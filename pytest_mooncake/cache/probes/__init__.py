"""The correctness gate: its prompts, its replies, and how both are asked for."""
