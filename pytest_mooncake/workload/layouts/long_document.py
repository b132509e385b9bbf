"""The workload of the acceptance report: distinct long documents, nothing shared between them."""

from __future__ import annotations

from pytest_mooncake.plan.models import WorkloadPlan
from pytest_mooncake.workload.layouts.layout import Layout, Segments


def document_layout(plan: WorkloadPlan) -> Layout:
    """One segment of `prompt_tokens` for every request: no prompt shares a chunk with another."""
    import numpy as np

    count = plan.requests
    return Layout(
        starts=np.arange(count + 1, dtype=np.int64),
        path=np.arange(count, dtype=np.int32),
        segments=Segments(tokens=np.full(count, plan.prompt_tokens, dtype=np.int32)),
        prompt_tokens=np.full(count, plan.prompt_tokens, dtype=np.int32),
        output_tokens=np.full(count, plan.output_tokens, dtype=np.int32),
    )
