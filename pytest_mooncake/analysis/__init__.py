"""Pure functions from recorded rounds to figures and verdicts; no I/O, no pytest, no aiohttp."""
