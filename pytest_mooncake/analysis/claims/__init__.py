"""Claims, thresholds and their bounds: what is tested, in which words, and how it all becomes one verdict."""
