"""Counters as they are shown: which names they have, whose they are, what they did between two looks."""
