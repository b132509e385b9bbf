"""What can be seen in one round: where the checks in `analysis.evidence.checks` take their blame."""

from __future__ import annotations

from pytest_mooncake.analysis.evidence.faults.observation import Blame, Observation

__all__ = ["ANY", "COLD", "WARM"]

P, I, U, N = Blame.PRODUCT, Blame.INSTRUMENT, Blame.UNKNOWN, Blame.NONE  # noqa: E741 - a table's marks

_NOT_COLD = "our prompts are new by a nonce, so whatever was served of them had been cached by somebody before"
_OTHERS = "the store's counters do not say whose keys they count; our own are seen in what our prompts are served"
_OWN_MISS = "the same round shows that our own prompts were not served what the cold round stored"

COLD = (
    Observation("cold_no_external_hits", "hits", "tokens came through the connector", I, I, _NOT_COLD),
    Observation("cold_no_local_hits", "hits", "tokens came from the engine's prefix cache", I, I, _NOT_COLD),
    Observation(
        "cold_no_local_hits",
        "template",
        "the same, and how long a template is in front of our text is not known",
        U,
        U,
        "a template's own blocks are served to everybody; without its length they cannot be told from ours",
    ),
    Observation("cold_no_cached_tokens", "hits", "replies tell of cached tokens beyond a template's", I, I, _NOT_COLD),
    Observation(
        "cold_own_reuse",
        "short",
        "requests in order found less than earlier ones stored",
        I,
        I,
        "the round is colder than planned, which makes the gain larger; whether something is lost the warm round tells",
    ),
    Observation(
        "cold_own_reuse",
        "chunks_unknown",
        "the same, and the chunk size is not known",
        U,
        U,
        "the plan is made in the smallest blocks there are: larger chunks hold less of what is shared",
    ),
    Observation("cold_no_store_hits", "ours", "Mooncake handed out keys, and our prompts were served", I, I, _NOT_COLD),
    Observation(
        "cold_no_store_hits",
        "others",
        "Mooncake handed out keys, and nothing of our prompts was served",
        I,
        U,
        "somebody else read: in a store of our own nobody should, in a shared one anybody may",
    ),
    Observation(
        "cold_all_stored",
        "short",
        "fewer keys came into the store than the round's chunks, and none went",
        P,
        P,
        "keys × ranks of our own prompts are known, and others' could only add to them",
    ),
    Observation(
        "cold_all_stored",
        "short_and_lost",
        "the same, and keys were evicted or removed meanwhile",
        P,
        U,
        "in a shared store others' keys that went hide ours that came; the warm round tells",
    ),
    Observation(
        "cold_all_stored",
        "nothing",
        "no key came into the store, and how many should have is not known",
        P,
        U,
        "no key at all is none of ours; in a shared store others' may have gone meanwhile, and prompts may be shorter "
        "than a chunk",
    ),
    Observation(
        "cold_all_stored",
        "surplus",
        "more keys came into the store than the round's chunks",
        I,
        U,
        "somebody else stores too: ours cannot be counted, the warm round tells whether they are there",
    ),
    Observation(
        "cold_puts_succeeded",
        "failed",
        "puts found no space, were revoked or abandoned",
        P,
        U,
        "whose puts they were is not counted; in a store of our own they are ours, else the warm round tells",
    ),
)

WARM = (
    Observation(
        "warm_external_tokens",
        "short",
        "the engines count less from outside than any chunk size that can be explains",
        P,
        P,
        "engines that served our requests alone count it, and the cold round before had sent the same prompts",
    ),
    Observation(
        "warm_external_tokens",
        "chunks_unknown",
        "less than some chunk size explains, and it is not known",
        U,
        U,
        "what could be cached depends on it: --mooncake-chunk-tokens tells",
    ),
    Observation(
        "warm_external_tokens",
        "surplus",
        "the engines count more from outside than our prompts can have",
        I,
        I,
        "somebody else's prompts are counted",
    ),
    Observation(
        "warm_no_local_hits",
        "hits",
        "the engine's prefix cache answered, more than a template's blocks",
        P,
        P,
        "engines that served our requests alone count it: the wrong tier answered",
    ),
    Observation(
        "warm_no_local_hits",
        "template",
        "the same, less than half of our prompts, and a template's length is not known",
        U,
        U,
        "a template's own blocks are served to everybody; without its length they cannot be told from ours",
    ),
    Observation(
        "warm_cached_tokens",
        "short",
        "replies tell of less than any chunk size that can be explains",
        P,
        P,
        "each reply speaks of our own request, and the cold round before had sent the same prompts",
    ),
    Observation(
        "warm_cached_tokens",
        "chunks_unknown",
        "less than some chunk size explains, and it is not known",
        U,
        U,
        "what could be cached depends on it: --mooncake-chunk-tokens tells",
    ),
    Observation(
        "warm_hit_share",
        "short",
        "a smaller share of what could be cached was served than the targets ask",
        P,
        P,
        "by the engines' counters or the replies, as above",
    ),
    Observation(
        "warm_hit_share",
        "chunks_unknown",
        "the share depends on the chunk size, which is not known",
        U,
        U,
        "what could be cached depends on it: --mooncake-chunk-tokens tells",
    ),
    Observation(
        "warm_store_hits",
        "short",
        "Mooncake handed out fewer keys than our prompts have chunks",
        P,
        P,
        "whoever else reads, all reads together are fewer than ours had to be",
    ),
    Observation(
        "warm_store_hits",
        "ranks_unknown",
        "fewer keys than were stored, and how many a chunk has is not known",
        U,
        U,
        "others may have stored in the cold round, or the last chunk of a prompt is computed",
    ),
    Observation(
        "warm_store_hits",
        "surplus",
        "Mooncake handed out more keys than our prompts have",
        I,
        U,
        "somebody else read, or reads were repeated: in a shared store ours cannot be told from them",
    ),
    Observation(
        "warm_store_bytes",
        "size",
        "bytes handed out are not keys × the size of one",
        I,
        U,
        "objects are not what model, data type, chunk size and ranks say; in a shared store they may be others'",
    ),
    Observation(
        "warm_no_lmcache_cpu",
        "tokens",
        "tokens came from outside that Mooncake did not hand out",
        P,
        P,
        "engines that served our requests alone count more than Mooncake handed out to anybody: a nearer tier answered",
    ),
    Observation(
        "warm_no_lmcache_cpu",
        "others",
        "more keys were handed out than our prompts have",
        I,
        U,
        "others' reads hide what Mooncake did not hand out to us",
    ),
    Observation(
        "store_kept", "lost", "keys went between the rounds, and our prompts were not served all", P, P, _OWN_MISS
    ),
    Observation(
        "store_kept",
        "lost_served",
        "keys went between the rounds, and our prompts were served all",
        P,
        N,
        "a store of our own loses nothing unasked; in a shared one they were not ours, for ours were served",
    ),
    Observation(
        "store_kept",
        "lost_untold",
        "keys went between the rounds, and what our prompts were served is not known",
        P,
        U,
        _OTHERS,
    ),
    Observation(
        "warm_prefill_fell",
        "slower",
        "the mean prefill takes a fifth longer than in the cold round, or more",
        P,
        P,
        "engines that served our requests alone time it, on the same prompts",
    ),
    Observation(
        "warm_ttft_fell",
        "slower",
        "the mean TTFT is not below the cold round's, and nothing better is known",
        U,
        U,
        "times vary, and prompts may be shorter than a chunk: no miss is proven, and the claims judge the times",
    ),
)

ANY = (
    Observation(
        "requests_served", "failed", "requests failed, or a round was cut because all did", P, P,
        "they were our own requests, and the plan keeps within what the endpoint takes",
    ),
    Observation(
        "requests_served", "refused", "an endpoint refused every request of the first round (HTTP 400, 404, 422, 501)",
        I, I, "it does not take a field, a length or a model, and none was served: that says nothing of a cache",
    ),
    Observation(
        "requests_served", "not_sent", "requests of the plan were not sent", I, I, "the client did not do as planned"
    ),
    Observation(
        "sources_answer",
        "gone",
        "a process that was started here does not listen any more",
        P,
        P,
        "its own port is closed, so it has ended",
    ),
    Observation(
        "sources_answer",
        "silent",
        "a source of counters that had answered refuses, is slow, or answers wrongly, twice",
        U,
        U,
        "a busy gateway and a dying process look alike",
    ),
    Observation(
        "no_restart",
        "restarted",
        "one identified process restarted",
        P,
        P,
        "its own start time has changed, or counters fell that no other process can have shown",
    ),
    Observation(
        "no_restart",
        "untold",
        "counters fell where several processes may answer in turn",
        U,
        U,
        "a restart and another replica look alike",
    ),
    Observation("settled", "not_settled", "the stores did not end within the limit", I, I,
                "the warm round would ask for what is still on its way"),
    Observation("only_our_requests", "others", "the engines served more requests than were ours", I, I,
                "sums over them are not about our requests"),
    Observation("no_preemptions", "preempted", "requests were preempted", I, I,
                "the engine ran out of KV cache and asked the store again: times and reads are not those of the plan"),
    Observation("tokens_add_up", "unexplained", "the engine's sources do not add up to its prompt tokens", I, I,
                "counters that contradict each other prove nothing"),
    Observation("cached_tokens_agree", "differ", "replies and counters tell different sums", I, I,
                "they are not about the same requests"),
    Observation("no_evictions", "evicted", "keys were evicted, and our prompts were not served all", P, P, _OWN_MISS),
    Observation(
        "no_evictions", "evicted_served", "keys were evicted, and our prompts were served all", P, N,
        "a store of our own is too small for the round; in a shared one they were not ours, for ours were served",
    ),
    Observation(
        "no_evictions", "evicted_untold", "keys were evicted, and what our prompts are served is not known (yet)", P, U,
        _OTHERS,
    ),
    Observation(
        "segments_unchanged", "left", "a segment left the pool of a store", P, I,
        "a node that was started here went; in a shared store its owner may take it, and a miss is seen as one",
    ),
    Observation("segments_unchanged", "changed", "segments joined or came back", I, I,
                "the pool is not the same before and after"),
    Observation(
        "segments_unchanged", "changed_served", "segments joined or left, and our prompts were served all", I, N,
        "in a shared store nodes come and go; what they held was not ours, for ours were served",
    ),
    Observation(
        "segments_unchanged", "changed_untold", "segments joined or left, and what our prompts are served is not known "
        "(yet)", I, U, _OTHERS,
    ),
    Observation("nothing_removed", "removed", "somebody removed keys, and our prompts were not served all", I, I,
                "the removal was not ours; the miss is seen as one"),
    Observation(
        "nothing_removed", "removed_served", "somebody removed keys, and our prompts were served all", I, N,
        "in a shared store others clean up; what went was not ours, for ours were served",
    ),
    Observation(
        "nothing_removed", "removed_untold", "somebody removed keys, and what ours are served is not known (yet)",
        I, U, _OTHERS,
    ),
)  # fmt: skip
