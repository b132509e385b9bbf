"""How many tokens a stored chunk of a stack holds, where somebody tells."""

from __future__ import annotations

from pytest_mooncake.records import StackView

__all__ = ["GIVEN_CHUNK", "chunk_tokens_of"]

GIVEN_CHUNK = "chunk_tokens"
"""Key of `StackView.details`: the chunk size that the user gave for a stack that does not tell its own."""


def chunk_tokens_of(view: StackView) -> int | None:
    """Return the chunk size that the stack tells, else the one that was given for it; None where neither is there."""
    if view.kv is not None:
        return view.kv.chunk_tokens
    given = view.details.get(GIVEN_CHUNK)
    return given if isinstance(given, int) and given > 0 else None
