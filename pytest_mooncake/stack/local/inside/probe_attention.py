"""How fast is attention on this CPU? Prints the seconds of one fixed piece of it, as a bare number.

The piece is causal attention in bf16 over 4,096 tokens with one head of 64: what a query head costs in prefill, on
whatever units the CPU has for it (AMX, AVX-512 bf16, none). Best of several, at most about a second in all.
"""

from __future__ import annotations

import time

TOKENS, HEAD_DIM, HEADS = 4096, 64, 2
BUDGET_S = 0.8


def main() -> None:
    """Measure until the budget is used up; the best is the one least disturbed."""
    import torch

    query, key, value = torch.randn(3, 1, HEADS, TOKENS, HEAD_DIM, dtype=torch.bfloat16)
    attention = torch.nn.functional.scaled_dot_product_attention
    best_s, began = float("inf"), time.perf_counter()
    while time.perf_counter() - began < BUDGET_S:
        start = time.perf_counter()
        attention(query, key, value, is_causal=True)
        best_s = min(best_s, time.perf_counter() - start)
    print(best_s / HEADS)


if __name__ == "__main__":
    main()
