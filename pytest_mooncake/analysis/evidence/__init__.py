"""Where the tokens of a round came from: counters read, sums expected, checks made. Pure."""
