"""The real stack on this machine: vLLM, LMCache and Mooncake as processes of our own."""
