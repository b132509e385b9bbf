"""What enters from outside, before anything else sees it."""
