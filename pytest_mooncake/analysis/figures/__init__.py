"""Request records become columns, columns become figures: TTFT, TPOT, ITL, throughput, goodput."""
