"""A workload ready to be sent: a layout plus the symbols its prompts are made of. Prompts are made when asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, cast, overload

from pytest_mooncake.errors import WorkloadError
from pytest_mooncake.plan.models import WorkloadPlan
from pytest_mooncake.records import PlannedRequest, PlannedReuse
from pytest_mooncake.workload.layouts.layout import Layout
from pytest_mooncake.workload.tokens.nonce import NONCE_TOKENS, nonce_places
from pytest_mooncake.workload.tokens.pools import OPENER, Pool, TokenPool, WordPool
from pytest_mooncake.workload.tokens.streams import Content, SyntheticTokens

if TYPE_CHECKING:
    from pytest_mooncake.workload.reuse.planned_reuse import Reuse

Symbols = list[int] | list[str]

SMALLEST_BLOCK = 16
"""Of vLLM's own prefix cache; every chunk of a store is a multiple of it."""


class Workload:
    """The requests of a plan, for any round.

    Args:
        plan: what was asked for.
        layout: how the prompts are composed.
        pool: what they are made of; None sends plain words whose tokens only the server can count.
        run_id: goes into every nonce, so that no two runs share one.
        own_text: rows of the user's own text instead of made-up ones (made of the same kind of symbols as the pool).
        max_model_len: tokens the model takes, prompt and output together; None if unknown.

    Raises:
        WorkloadError: a request does not fit the model, or a prompt is too short to be made unique.
    """

    def __init__(
        self,
        plan: WorkloadPlan,
        layout: Layout,
        pool: Pool | None = None,
        *,
        run_id: str = "",
        own_text: Content | None = None,
        max_model_len: int | None = None,
    ) -> None:
        self.plan = plan
        self.run_id = run_id
        self.layout = layout
        self.pool: Pool = pool or WordPool()
        symbols = self.pool.ids if isinstance(self.pool, TokenPool) else self.pool.words
        self.content: Content = own_text or SyntheticTokens(symbols)
        self.has_own_text = own_text is not None
        self._replies: dict[int, tuple[int, ...]] = {}
        self._replies_of: str | None = None
        limits = [limit for limit in (max_model_len, self.pool.max_model_len) if limit is not None]
        if limits:
            check_context(plan, layout, min(limits))
        self._check_overhead()

    def requests(self, nonce: str, *, engines: int = 1, shift: int = 0) -> Planned:
        """The requests of a round; the same nonce gives the same prompts, request i goes to engine (i + shift) mod n.

        Cold rounds use a new nonce and shift 0; a warm round repeats the nonce of the cold one before it with shift 1,
        so that with several engines every hit crosses from one to another.
        """
        return Planned(workload=self, nonce=f"{self.run_id}/{nonce}", engines=engines, shift=shift)

    def reuse(self, chunk_tokens: int = 256) -> Reuse:
        """What an unbounded cache of whole chunks serves in a cold and in a warm round, request by request."""
        from pytest_mooncake.workload.reuse.planned_reuse import planned_reuse

        return planned_reuse(self.layout, chunk_tokens)

    def planned(self, chunk_tokens: int | None) -> PlannedReuse:
        """The sums of `reuse` for a store of such chunks.

        Where its chunks are not known, in blocks of 16 tokens: no cache finds more with larger ones.
        """
        sums = self.reuse(chunk_tokens or SMALLEST_BLOCK).sums(in_order=self.plan.in_flight_cap == 1)
        is_known = isinstance(self.pool, TokenPool) or self.pool.is_exact
        return replace(sums, common_tokens=self.overhead_tokens if is_known else None)

    @property
    def overhead_tokens(self) -> int:
        """Tokens of a prompt that are not ours to choose: template, BOS, opener (0 where unknown)."""
        return (self.pool.overhead_tokens or 0) if isinstance(self.pool, WordPool) else 0

    def reply_of(self, index: int) -> int:
        """The segment that holds the server's own answer to request `index` in later prompts; -1 for none.

        Answers come as token ids, so prompts of text carry fixed ones.
        """
        reply = self.layout.reply
        return -1 if reply is None or not isinstance(self.pool, TokenPool) else int(reply[index])

    def has_reply(self, nonce: str, segment: int) -> bool:
        """Whether the answer that `segment` stands for was given in the round of `nonce`."""
        return self._replies_of == nonce and segment in self._replies

    def keep_reply(self, nonce: str, segment: int, token_ids: tuple[int, ...]) -> None:
        """Put an answer into the prompts of the round of `nonce`; the first one stays. Other rounds' are forgotten."""
        if self._replies_of != nonce:
            self._replies, self._replies_of = {}, nonce
        self._replies.setdefault(segment, token_ids)

    def prompt_tokens(self, index: int) -> int | None:
        """What the server must count for request `index`, None where it cannot be known."""
        known = isinstance(self.pool, TokenPool) or (self.pool.is_exact and not self.has_own_text)
        return int(self.layout.prompt_tokens[index]) if known else None

    def prompt(self, nonce: str, index: int) -> tuple[int, ...] | str:
        """The prompt of request `index`: token ids, or text."""
        symbols = self._symbols(nonce, index)
        if isinstance(self.pool, TokenPool):
            return tuple(cast("list[int]", symbols))
        return " ".join((OPENER, *cast("list[str]", symbols)))

    def _symbols(self, nonce: str, index: int) -> Symbols:
        import numpy as np

        layout = self.layout
        count = int(layout.prompt_tokens[index]) - self.overhead_tokens
        path = layout.path[int(layout.starts[index]) : int(layout.starts[index + 1])].tolist()
        runs = _runs(layout, path, count)
        salt = nonce if self.plan.kind == "trace" else f"seed {self.plan.seed}"
        rows = [self.content.take(salt, run.stream, run.offset, run.tokens) for run in runs]
        places = np.concatenate(rows)
        places[:NONCE_TOKENS] = nonce_places(nonce, runs[0].stream, self.content.nonce_symbols)[: len(places)]
        made: Symbols = self.content.symbols[places].tolist()
        return self._with_replies(nonce, runs, made)

    def _with_replies(self, nonce: str, runs: Sequence[_Run], symbols: Symbols) -> Symbols:
        if self._replies_of != nonce:
            return symbols
        at = 0
        for run in runs:
            reply = self._replies.get(run.segment)
            if reply is not None:
                symbols[at : at + run.tokens] = reply[: run.tokens]  # type: ignore[assignment]
            at += run.tokens
        return symbols

    def _check_overhead(self) -> None:
        shortest = int(min(self.layout.prompt_tokens)) - self.overhead_tokens
        if shortest < 1 or (shortest < NONCE_TOKENS and self.plan.kind != "trace"):
            raise WorkloadError(
                f"{self.plan.name}: prompts of {shortest + self.overhead_tokens} tokens are too short to be made new "
                f"in every round; give --mooncake-prompt-tokens {self.overhead_tokens + NONCE_TOKENS} or more"
            )


def check_context(plan: WorkloadPlan, layout: Layout, max_model_len: int) -> None:
    """Refuse a workload whose longest request does not fit the model.

    Raises:
        WorkloadError: one line with the figures and the option to change.
    """
    import numpy as np

    totals = layout.prompt_tokens.astype(np.int64) + layout.output_tokens
    longest = int(np.argmax(totals))
    prompt, output, total = int(layout.prompt_tokens[longest]), int(layout.output_tokens[longest]), int(totals[longest])
    if total <= max_model_len:
        return
    room = (max_model_len - output) * plan.prompt_tokens // prompt
    less_output = max(1, (max_model_len - NONCE_TOKENS) * plan.output_tokens // (2 * output))
    option, figure = ("prompt", room) if room >= NONCE_TOKENS else ("output", less_output)
    raise WorkloadError(
        f"{plan.name}: request {longest} needs {prompt} + {output} = {total} tokens, "
        f"but the model takes {max_model_len}; give --mooncake-{option}-tokens {figure} or less"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Run:
    segment: int
    stream: int
    offset: int
    tokens: int


def _runs(layout: Layout, path: Sequence[int], count: int) -> list[_Run]:
    """The rows to be read for a path cut to `count` symbols; neighbours in one stream are read as one."""
    segments = layout.segments
    runs: list[_Run] = []
    for segment in path:
        tokens = min(int(segments.tokens[segment]), count)
        if tokens <= 0:
            break
        count -= tokens
        stream = segment if segments.stream is None else int(segments.stream[segment])
        offset = 0 if segments.offset is None else int(segments.offset[segment])
        last = runs[-1] if runs else None
        if last is not None and last.stream == stream and last.offset + last.tokens == offset:
            runs[-1] = _Run(segment=last.segment, stream=stream, offset=last.offset, tokens=last.tokens + tokens)
        else:
            runs.append(_Run(segment=segment, stream=stream, offset=offset, tokens=tokens))
    return runs


class Planned(Sequence[PlannedRequest]):
    """The requests of one round. Each is made when asked for, in well under a millisecond for 16,384 tokens."""

    def __init__(self, *, workload: Workload, nonce: str, engines: int, shift: int) -> None:
        self.workload = workload
        self.nonce = nonce
        self.engines = engines
        self.shift = shift

    def __len__(self) -> int:
        return len(self.workload.layout)

    @overload
    def __getitem__(self, index: int) -> PlannedRequest: ...
    @overload
    def __getitem__(self, index: slice) -> list[PlannedRequest]: ...
    def __getitem__(self, index: int | slice) -> PlannedRequest | list[PlannedRequest]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(f"request {index} of {len(self)}")
        return self._make(index % len(self))

    @property
    def is_chained(self) -> bool:
        """Whether any request waits for another one."""
        return self.workload.layout.after is not None

    def outline(self, index: int) -> PlannedRequest | None:
        """Request `index` without its prompt where that holds an answer to come; None where all of it is known."""
        after = self._after(index)
        segment = -1 if after is None else self.workload.reply_of(after)
        known = segment < 0 or self.workload.has_reply(self.nonce, segment)
        return None if known else self._made(index, prompt="")

    def answered(self, index: int, token_ids: tuple[int, ...]) -> None:
        """Take the server's answer to request `index` into the later turns of its conversation.

        Ignored where replies are fixed. An answer of another length than planned is ignored too: the planned text
        keeps the lengths exact, and the request itself has failed by then. A round that is sent again keeps the
        answers of the first time, so that its requests are the same ones.
        """
        segment = self.workload.reply_of(index)
        if segment >= 0 and len(token_ids) == int(self.workload.layout.output_tokens[index]):
            self.workload.keep_reply(self.nonce, segment, token_ids)

    def _after(self, index: int) -> int | None:
        after = self.workload.layout.after
        return None if after is None or int(after[index]) < 0 else int(after[index])

    def _make(self, i: int) -> PlannedRequest:
        return self._made(i, prompt=self.workload.prompt(self.nonce, i))

    def _made(self, i: int, *, prompt: tuple[int, ...] | str) -> PlannedRequest:
        layout = self.workload.layout
        return PlannedRequest(
            index=i,
            engine=(i + self.shift) % self.engines,
            prompt=prompt,
            prompt_tokens=self.workload.prompt_tokens(i),
            output_tokens=int(layout.output_tokens[i]),
            offset_ns=None if layout.offset_ns is None else int(layout.offset_ns[i]),
            after=self._after(i),
            think_ns=0 if layout.think_ns is None else int(layout.think_ns[i]),
            body={"return_token_ids": True} if self.workload.reply_of(i) >= 0 else {},
        )
