"""What can be seen beside the rounds: by the correctness gate, the client, the audit, and over the whole run."""

from __future__ import annotations

from pytest_mooncake.analysis.evidence.faults.observation import Blame, Observation

__all__ = ["CLIENT", "GATE", "RUN"]

P, I, U, N = Blame.PRODUCT, Blame.INSTRUMENT, Blame.UNKNOWN, Blame.NONE  # noqa: E741 - a table's marks

GATE = (
    Observation(
        "probes_answered",
        "failed",
        "only what should come from the cache fails, twice, by the engine's own word",
        P,
        P,
        "the same prompt was answered without the cache, and so was one as long",
    ),
    Observation(
        "probes_answered",
        "failed_untold",
        "a short request failed otherwise",
        U,
        U,
        "a proxy, a time limit and the engine cannot be told apart",
    ),
    Observation(
        "probes_answered",
        "refused",
        "the endpoint refuses what the gate needs",
        U,
        U,
        "a field that is not taken says nothing of a cache: the gate does not apply",
    ),
    Observation(
        "correct_text",
        "differs",
        "an answer from a cache lies further from the computed one than a tie",
        P,
        P,
        "both answers are to our own prompt, and counters or the reply say that a cache answered",
    ),
    Observation(
        "correct_text",
        "not_comparable",
        "too few alternatives, or none, where tokens differ; or no tokens at all",
        U,
        U,
        "no distance can be told",
    ),
    Observation(
        "correct_text",
        "nothing_cached",
        "nothing of the short requests came from a cache, or none was answered",
        U,
        U,
        "what was computed anew says nothing about a cache",
    ),
    Observation(
        "correct_text",
        "nearer_tier",
        "a nearer cache answered, or nothing tells which",
        U,
        U,
        "what the store gives back was not seen",
    ),
    Observation(
        "cached_at_chunk_edges",
        "differs",
        "less is cached at the edges of chunks than the formulae say, or the connector served more",
        P,
        P,
        "chunk size and ranks were told, and the replies are to our own prompts",
    ),
    Observation(
        "cached_at_chunk_edges",
        "more",
        "more is cached, and nothing tells by which cache",
        U,
        U,
        "the engine's own prefix cache has blocks of its own",
    ),
    Observation(
        "cached_at_chunk_edges",
        "chunks_unknown",
        "the stack does not tell its chunk size",
        U,
        U,
        "there is nothing to hold the replies against",
    ),
    Observation("cached_at_chunk_edges", "untold", "replies do not tell what was cached", U, U, "None is never 0"),
    Observation(
        "tenants_share_nothing",
        "shared",
        "the connector serves a prompt that was stored under another tag",
        P,
        P,
        "both requests were ours, and the engines count what came from outside",
    ),
    Observation(
        "tenants_share_nothing",
        "nearer_tier",
        "the engine's own prefix cache answered, or nothing tells",
        U,
        U,
        "it knows no tags, by design",
    ),
    Observation(
        "tenants_share_nothing",
        "not_asked",
        "requests carry no tags, or the one under another tag was not answered",
        U,
        U,
        "a field that is not taken says nothing of a cache",
    ),
    Observation(
        "tenants_share_nothing",
        "untold",
        "nothing was cached under the own tag either, or replies do not tell",
        U,
        U,
        "that another tag finds nothing is no proof then",
    ),
    Observation("cache_salt", "found", "what `cache_salt` isolates, whatever it is", N, N, "reported, not judged"),
    Observation(
        "cache_salt",
        "not_asked",
        "the salted request was refused, or nothing was cached without salt",
        U,
        U,
        "a field that is not taken says nothing of a cache",
    ),
)

CLIENT = (
    Observation("client", "saturated", "the client's own CPU or delays held requests up", I, I, "it measures itself"),
    Observation(
        "client",
        "too_coarse",
        "the client's own error could move a claim too far",
        I,
        I,
        "its bias is measured by calibration",
    ),
    Observation(
        "trial",
        "rung",
        "a trial's evidence ends below the least rung asked for",
        I,
        I,
        "counters were not read in one of its rounds",
    ),
)

RUN = (
    Observation("audit", "broken", "figures of valid trials contradict each other", I, I,
                "numbers that cannot be true at once must not be published"),
    Observation("run", "rung", "the least rung asked for was not reached", I, I,
                "`--mooncake-evidence` says which would be"),
    Observation("run", "repeats", "more trials were invalid than may be repeated", I, I,
                "a third of the planned trials may be"),
    Observation("run", "gate_not_made", "a gate that was planned was not made", I, I,
                "what was not looked at is not passed; a product fault stays one, and so does an undecided run"),
    Observation("run", "gate_not_applicable", "a gate does not apply to this stack", N, N,
                "the stack has not what it looks at; said in the first lines of every report"),
    Observation("run", "cut", "the run ended before it was decided", U, U,
                "judged on the trials that stand: INCONCLUSIVE, or INVALID where its claims would pass"),
    Observation("failures", "failed", "requests of any round failed", P, P, "they were our own; none is rerun"),
    Observation("failures", "new_endpoint", "in a comparison, requests of the new endpoint failed", P, P,
                "they were our own, and the old endpoint answered the same ones"),
    Observation("failures", "old_endpoint", "in a comparison, requests of the old endpoint failed", U, U,
                "nothing can be compared; the endpoint under test is not at fault"),
    Observation("warm_hit_share", "claim", "the claim on hits: the worst warm round served less than asked", P, P,
                "by the same figures as the check of its name; a round that cannot tell is left out"),
    Observation("claim", "missed", "a claim's interval lies beyond its target", P, P,
                "by the statistics of the valid trials; counts as a missed claim, not as a fault"),
    Observation("internal_error", "raised", "the program itself failed", U, U, "no verdict: exit 4, or pytest's 3"),
)  # fmt: skip
