"""Secrets of an attached endpoint: read from the variables that the plan names, sent to its own origins only.

An origin is scheme, host and port of a `--mooncake-url`. Whatever is asked there (models, metrics, tokenizer, caches,
completions) carries the key and the header; the master, the metadata server and counters elsewhere never see them.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from pytest_mooncake.border.redaction import LEAST_SECRET, MASK, PIECE, Redactor, secrets_of_headers
from pytest_mooncake.errors import EndpointError, MooncakeError, UsageError
from pytest_mooncake.plan.secrets.masking import is_secret_name, secret_arguments

if TYPE_CHECKING:
    from pytest_mooncake.plan.models import Plan, StackPlan

__all__ = ["Credentials", "api_key", "credentials_of", "header_in", "origin", "redactor_of"]

_VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]{0,63}")
_HEADER = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\t\x20-\x7e\x80-\xff]+)")
_OURS = {"content-length", "content-type", "host", "transfer-encoding", "connection"}
_PORTS = {"http": 80, "https": 443}


def origin(url: str) -> str:
    """Return scheme, host and port of a URL: what a secret may be sent to.

    >>> origin("https://LLM.example/v1"), origin("http://[::1]:8000")
    ('https://llm.example:443', 'http://[::1]:8000')
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    shown = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{shown}:{parts.port or _PORTS.get(parts.scheme, 0)}"


class _Unshown(dict[str, str]):
    """Headers whose values no traceback shows: pytest prints the arguments of a function that failed."""

    def __repr__(self) -> str:
        return repr(dict.fromkeys(self, MASK))


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """Headers that hold secrets, where they may go, and what to tell who is refused. Never shown, never recorded."""

    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    redactor: Redactor = field(default_factory=Redactor, repr=False)
    origins: frozenset[str] = frozenset()
    notes: tuple[str, ...] = ()
    """What people should know of their secrets, a sentence each."""
    remedy: str = "name the variable that holds its key with --mooncake-api-key-env"

    def headers_for(self, url: str) -> Mapping[str, str]:
        """The headers that a request to `url` carries: none at another origin."""
        return self.headers if self.headers and origin(url) in self.origins else {}

    def redacted(self, text: str) -> str:
        """`text`, which may repeat a secret, without it."""
        return self.redactor.redacted(text)


def credentials_of(stack: StackPlan, environ: Mapping[str, str]) -> Credentials:
    """The bearer header and the one more that the plan names variables for.

    Raises:
        EndpointError: the key's variable is not set, or holds what no header can carry.
        UsageError: the header's variable is not set, or holds no header.
    """
    key = api_key(stack.api_key_env, environ)
    extra = header_in(stack.header_env, environ) if stack.header_env else {}
    headers = ({"Authorization": f"Bearer {key}"} if key else {}) | extra
    # a header that is given as `Authorization` goes instead of the key, which is a secret all the same
    sent = secrets_of_headers(headers)
    return Credentials(
        headers=_Unshown(headers),
        redactor=sent | Redactor([key]) if key else sent,
        notes=tuple(_too_short(stack, key, extra)),
        origins=frozenset(origin(url) for url in stack.urls),
        remedy=_remedy(stack),
    )


def redactor_of(plan: Plan, environ: Mapping[str, str]) -> Redactor:
    """Every secret of a run: of its endpoints, and what its engines' environment and arguments hold of the kind.

    What is missing in `environ` is no secret here: whoever needs it says so.
    """
    found = Redactor()
    for stack in (plan.stack, plan.versus):
        if stack is None:
            continue
        with contextlib.suppress(MooncakeError):
            found |= credentials_of(stack, environ).redactor
        settings = (value for name, value in stack.engine.extra_env.items() if is_secret_name(name))
        told = (*settings, *secret_arguments(stack.engine.extra_args))
        found |= Redactor(value for value in told if len(value) >= PIECE)
    return found


def _too_short(stack: StackPlan, key: str | None, extra: Mapping[str, str]) -> Iterator[str]:
    """Secrets that cannot be told from ordinary text."""
    named = ((stack.api_key_env, (key,) if key else ()), (stack.header_env, tuple(extra.values())))
    for variable, values in named:
        if any(len(value) < LEAST_SECRET for value in values):
            yield (
                f"${variable} holds fewer than {LEAST_SECRET} characters: too short a secret to be told from ordinary "
                "text, so it is not taken out of what a server says; use a longer one."
            )


def _remedy(stack: StackPlan) -> str:
    if stack.api_key_env and stack.header_env:
        return (
            f"is the key in ${stack.api_key_env} (--mooncake-api-key-env) the right one, "
            f"and the header in ${stack.header_env} (--mooncake-header-env)?"
        )
    if stack.api_key_env:
        return f"is the key in ${stack.api_key_env} (--mooncake-api-key-env) the right one?"
    if stack.header_env:
        return (
            f"is the header in ${stack.header_env} (--mooncake-header-env) the right one, "
            "or is a key wanted (--mooncake-api-key-env)?"
        )
    return Credentials().remedy


def api_key(variable: str | None, environ: Mapping[str, str]) -> str | None:
    """Return the secret in the environment variable `variable`; `None` when no variable was named.

    Raises:
        EndpointError: the variable is not set, is empty or holds what no header can carry. A name that does not look
            like one is not repeated: it may be the key itself.
    """
    if variable is None:
        return None
    shown = variable if _VARIABLE.fullmatch(variable) else "(name not shown: it may be a key)"
    key = environ.get(variable, "").strip()
    if not key:
        raise EndpointError(
            f"--mooncake-api-key-env {shown}: no such environment variable, or it is empty; the option takes the NAME "
            "of a variable that holds the key"
        )
    if not key.isascii() or not key.isprintable():
        raise EndpointError(f"--mooncake-api-key-env {shown}: its value holds characters that no header can carry")
    return key


def header_in(variable: str, environ: Mapping[str, str]) -> dict[str, str]:
    """The header `Name: value` that `variable` holds.

    Raises:
        UsageError: it is not set, holds no header, or one that belongs to the request itself.
    """
    shown = variable if _VARIABLE.fullmatch(variable) else "(name not shown: it may be the header)"
    flag = f"--mooncake-header-env {shown}"
    text = environ.get(variable, "").strip()
    if not text:
        raise UsageError(f"{flag}: this environment variable is not set; export it as 'Name: value'")
    found = _HEADER.fullmatch(text)
    if not found:
        raise UsageError(f"{flag}: what it holds is no header; export it as 'Name: value' on one line")
    name, value = found.groups()
    if name.lower() in _OURS:
        raise UsageError(f"{flag}: {name} belongs to the request itself and cannot be set")
    return {name: value.strip()}
