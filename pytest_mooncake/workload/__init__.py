"""Prompts with exact token counts, and who sends which when."""
