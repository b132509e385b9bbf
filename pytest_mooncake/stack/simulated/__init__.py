"""A simulated stack: OpenAI-compatible engines and a Mooncake-like master in one process, without any model.

It answers the same endpoints and moves the same counters as vLLM + LMCache + Mooncake, at a speed that a cost model
sets, so that the whole suite can be tried out and tested in seconds. Its figures say nothing about a real stack, and
everything that shows them says so (`SIMULATED_NOTE`).

    faults      what goes wrong on purpose            geometry    what a token takes in a cache
    chunks      chained hashes, keys                  store       keys, leases, eviction, Mooncake's counters
    engine/     the queue (one prefill at a time, shared decoding), tokens, request bodies, streams, vLLM's counters
    admin       the store's HTTP surface              serving     all of it, listening
    __main__    the process                           provision   starting and stopping it
"""

from __future__ import annotations

from pytest_mooncake.stack.simulated.provision import SIMULATED_NOTE, provision_simulated

__all__ = ["SIMULATED_NOTE", "provision_simulated"]
