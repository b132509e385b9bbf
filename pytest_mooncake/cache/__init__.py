"""What the caches did: counters, quiesce, evidence."""
