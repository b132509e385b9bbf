"""Whose a store is: whether all in it is of this run, and ends with it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_mooncake.records import StackView

if TYPE_CHECKING:
    pass


def ends_with_the_run(view: StackView) -> bool:
    """Whether the store was started here too, so that all of it may be used and nothing can stay in it."""
    return view.provisioned and not view.details.get("shared_store")
