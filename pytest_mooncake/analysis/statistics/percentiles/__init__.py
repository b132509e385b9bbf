"""Percentiles and shares of pooled requests, whose rounds are clusters."""
