"""The simulated engine: scheduling, protocol, stream, tokenizer, counters."""
