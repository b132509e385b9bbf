"""A simulated stack: OpenAI-compatible engines and a Mooncake-like master in one process, without any model.

It answers the same endpoints and moves the same counters as vLLM + LMCache + Mooncake, at a speed that a cost model
sets, so that the whole suite can be tried out and tested in seconds. Its figures say nothing about a real stack, and
everything that shows them says so (`SIMULATED_NOTE`).

    faults      what goes wrong on purpose            vocabulary  words and token ids
    chunks      chained hashes, keys                  masterstore keys, leases, eviction, Mooncake's counters
    metrics     vLLM's counters                       engine      the queue: one prefill at a time, shared decoding
    protocol    request bodies, checked               stream      server-sent events, as bytes
    api, admin  the two HTTP surfaces                 serving     all of it, listening
    __main__    the process                           provision   starting and stopping it
"""

from __future__ import annotations

from pytest_mooncake.stack.simulated.provision import SIMULATED_NOTE, provision_simulated

__all__ = ["SIMULATED_NOTE", "provision_simulated"]
