"""What a simulated stack does wrong on purpose, so that every verdict other than PASS can be produced at will."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import MISSING, dataclass, fields

from pytest_mooncake.errors import UsageError


@dataclass(frozen=True, slots=True, kw_only=True)
class Faults:
    """Switches; written `name` or `name:value` with dashes for underscores (`fail-every:3`).

    Numbers: `fail_every` refuses every nth request with a 500, `die_after` ends the process without a word when the
    request after the nth arrives, `slow_first_token` adds so many seconds before each first token, `tokens_per_chunk`
    sends so many tokens in one event (`None`: one).
    """

    cold_hits: bool = False
    """Every chunk is found in the store, also of prompts never seen (a store poisoned by somebody else)."""
    warm_misses: bool = False
    """Nothing is ever offered to the store."""
    drop_stores: bool = False
    """Puts start and are discarded: the keys never appear, as after a transfer that timed out."""
    stuck_stores: bool = False
    """Puts start and never end: the store does not settle."""
    local_hits: bool = False
    """The engine's own prefix cache serves the hits, as with prefix caching left on."""
    wrong_text: bool = False
    """A request that hit the cache gets another text than one that did not (corrupted KV)."""
    wrong_usage: bool = False
    """`usage` reports one prompt token too many and one output token too few."""
    no_usage: bool = False
    """No `usage`, whatever was asked for."""
    no_cached_tokens: bool = False
    """`usage` without `prompt_tokens_details`, as vLLM without `--enable-prompt-tokens-details`."""
    no_metrics: bool = False
    """Engines answer 404 to `/metrics`."""
    no_store_metrics: bool = False
    """The master answers 404 to `/metrics`."""
    no_tokenizer: bool = False
    """404 to `/tokenize` and `/detokenize`, as behind most gateways."""
    stream_error: bool = False
    """A stream that began with 200 ends with an error event after its first tokens."""
    fail_every: int | None = None
    die_after: int | None = None
    slow_first_token: float | None = None
    tokens_per_chunk: int | None = None


_FIELDS = {field.name.replace("_", "-"): field for field in fields(Faults)}


def fault_names() -> tuple[str, ...]:
    """Return every name that `parse_faults` knows, in the order of `Faults`."""
    return tuple(_FIELDS)


def parse_faults(words: Iterable[str]) -> Faults:
    """Read switches as written in a stack file or after `--fault`.

    Raises:
        UsageError: a name is unknown, or its value is missing, superfluous, no number or not positive.
    """
    values: dict[str, bool | float | int] = {}
    for word in words:
        name, _, value = word.partition(":")
        if name not in _FIELDS:
            near = difflib.get_close_matches(name, _FIELDS, n=1)
            hint = f"did you mean {near[0]!r}?" if near else "known: " + ", ".join(_FIELDS)
            raise UsageError(f"simulated fault {word!r}: no such fault; {hint}")
        values[_FIELDS[name].name] = _value(word, name, value)
    return Faults(**values)  # type: ignore[arg-type]  # each value was made for its field


def _value(word: str, name: str, value: str) -> bool | float | int:
    if _FIELDS[name].default is False:
        if value:
            raise UsageError(f"simulated fault {word!r}: {name!r} takes no value")
        return True
    assert _FIELDS[name].default is not MISSING  # noqa: S101 - a field without default could not be left out
    number = _number(value, whole="int" in str(_FIELDS[name].type))
    if number is None:
        raise UsageError(f"simulated fault {word!r}: {name!r} needs a positive number, e.g. '{name}:3'")
    return number


def _number(value: str, *, whole: bool) -> float | int | None:
    try:
        number = int(value) if whole else float(value)
    except ValueError:
        return None
    return number if 0 < number < float("inf") else None
