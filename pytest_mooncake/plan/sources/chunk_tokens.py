"""How many tokens a chunk of an attached stack holds, from the option or the stack's YAML."""

from __future__ import annotations

import re

from pytest_mooncake.errors import UsageError
from pytest_mooncake.plan.models import MOST_CHUNK_TOKENS, StackPlan

__all__ = ["with_chunk_tokens"]

FLAG = "--mooncake-chunk-tokens"


def with_chunk_tokens(stack: StackPlan, text: str | None) -> StackPlan:
    """Return the stack with the chunk size that was given: by the option, else by its YAML.

    Args:
        stack: as its file or the options made it; of an attached one a written `connector.chunk_tokens` counts too.
        text: of `--mooncake-chunk-tokens`.

    Raises:
        UsageError: it is no number of tokens, or the stack is started here and so tells its own.
    """
    if text is not None and stack.kind != "attached":
        raise UsageError(
            f"{FLAG} describes what already runs: give --mooncake-url as well; a stack that is started here takes "
            "connector.chunk_tokens of its YAML"
        )
    given = _parsed(text) if text is not None else stack.chunk_tokens or _written(stack)
    return stack if given == stack.chunk_tokens else stack.model_copy(update={"chunk_tokens": given})


def _parsed(text: str) -> int:
    digits = re.sub("[,_]", "", text.strip())
    if not re.fullmatch("[0-9]{1,7}", digits) or not 0 < int(digits) <= MOST_CHUNK_TOKENS:
        shown = text if len(text) <= 40 else f"{text[:40]}…"
        raise UsageError(f"{FLAG} {shown}: expected a whole number of tokens, 1 to {MOST_CHUNK_TOKENS:,}")
    return int(digits)


def _written(stack: StackPlan) -> int | None:
    """What an attached stack's YAML says of its connector; its default says nothing."""
    is_written = stack.kind == "attached" and "chunk_tokens" in stack.connector.model_fields_set
    return stack.connector.chunk_tokens if is_written else None
