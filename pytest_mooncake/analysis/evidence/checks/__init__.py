"""The checks of evidence, by what they speak of: cold rounds, warm ones, every round, the correctness gate."""
