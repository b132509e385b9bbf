"""Code that runs in processes of the stack, next to vLLM, LMCache and torch, never in pytest's."""
