"""Revisions in order: 0001 runs, 0002 findings and anchors."""
