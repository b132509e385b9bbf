"""Targets: their grammar, their metrics, thresholds and service levels."""
