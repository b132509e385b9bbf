"""What an error of a request says: that the endpoint does not do what was asked for, or that it failed."""

from __future__ import annotations

import re

from pytest_mooncake.records import Round, StackView

_STATUS = re.compile(r"HTTP (\d{3})\b")


_NOT_ABOUT_THE_REQUEST = frozenset({401, 408, 409, 425, 429})
"""Credentials, time, rate: statuses of the 400s that say nothing about what was asked for."""


def http_status(error: str | None) -> int | None:
    """The status in an error as probes record it; None where there was no answer."""
    found = _STATUS.match(error or "")
    return int(found[1]) if found else None


def is_refusal(error: str | None) -> bool:
    """Whether the endpoint said that it does not do what was asked for, rather than that it failed.

    >>> [is_refusal(e) for e in ("HTTP 400: logprobs", "HTTP 501: no", "HTTP 429: slow down", "HTTP 503: busy", None)]
    [True, True, False, False, False]
    """
    status = http_status(error)
    return status == 501 or (status is not None and 400 <= status < 500 and status not in _NOT_ABOUT_THE_REQUEST)


def is_refused_round(measured: Round, view: StackView) -> bool:
    """Whether an endpoint that was there before refused every request of a run's first round, so that none was served.

    It does not take the form of the requests: a field, a length, a model. What that is it says; of a cache it says
    nothing.
    """
    errors = [record.error for record in measured.requests]
    return measured.round == 0 and not view.provisioned and bool(errors) and all(is_refusal(e) for e in errors)
