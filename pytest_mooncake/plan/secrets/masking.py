"""What a plan keeps to itself: values of an engine's environment and arguments that may be secrets."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

__all__ = ["HIDDEN", "is_secret_name", "secret_arguments", "without_secrets", "without_values"]

HIDDEN = "***"
_SECRET_NAME = re.compile(
    r"(?:^|[-_.])(?:api-?keys?|keys?|token|secrets?|password|passwd|credentials?|auth)$", re.IGNORECASE
)


def is_secret_name(name: str) -> bool:
    """Whether a variable or flag of this name holds a secret, as far as a name can tell.

    >>> [is_secret_name(name) for name in ("HF_TOKEN", "--api-key", "OMP_NUM_THREADS", "MONKEY", "--max-num-tokens")]
    [True, True, False, False, False]
    """
    return _SECRET_NAME.search(name) is not None


def without_values(variables: Mapping[str, str]) -> dict[str, str]:
    """Names of variables; what they hold is nobody's business."""
    return dict.fromkeys(variables, HIDDEN)


def without_secrets(arguments: Sequence[str]) -> tuple[str, ...]:
    """A command's arguments without the values of flags that hold secrets.

    >>> without_secrets(("--api-key", "k1", "--hf-token=k2", "--max-num-seqs", "8"))
    ('--api-key', '***', '--hf-token=***', '--max-num-seqs', '8')
    """
    shown: list[str] = []
    for place, argument in enumerate(arguments):
        name, equals, value = argument.partition("=")
        if place and _takes_secret(arguments[place - 1]) and not argument.startswith("--"):
            shown.append(HIDDEN)
        elif equals and value and _takes_secret(name):
            shown.append(f"{name}={HIDDEN}")
        else:
            shown.append(argument)
    return tuple(shown)


def secret_arguments(arguments: Sequence[str]) -> Iterator[str]:
    """The values that `without_secrets` leaves out."""
    for argument, shown in zip(arguments, without_secrets(arguments), strict=True):
        if argument != shown:
            yield argument.partition("=")[2] if shown != HIDDEN else argument


def _takes_secret(flag: str) -> bool:
    return flag.startswith("--") and "=" not in flag and is_secret_name(flag)
