"""What of a plan nobody may read: credentials, and values that are left out of every dump."""
