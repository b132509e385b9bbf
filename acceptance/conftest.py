"""Order of the suite: preflight first, because it costs seconds and the measurement costs minutes."""

from __future__ import annotations

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the tests of `test_preflight.py` in front; the order of the others stays."""
    items.sort(key=lambda item: item.path.name != "test_preflight.py")
