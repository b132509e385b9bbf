"""What a model's config tells: KV bytes a token, which layers keep keys, parameters that work."""
