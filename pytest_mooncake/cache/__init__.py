"""What touches caches: counters scraped, stores awaited, keys removed, caches cleared."""
