"""Where facts are told: scripts, settings, manifests, unit files, and what a live endpoint shows."""
