"""Between pytest's command line and ini file, and what was asked for as a frozen value.

Imported at plugin load, so only the standard library is used here.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_mooncake.plan.options.declared import DECLARED, PREFIX, Declared, Options, Value

if TYPE_CHECKING:
    import pytest

_ACTIONS = {Value.TEXT: "store", Value.SWITCH: "store_true", Value.REPEATED: "append", Value.COUNTED: "count"}
_INI_TYPES: dict[Value, tuple[Any, Any]] = {Value.SWITCH: ("bool", False), Value.REPEATED: ("linelist", [])}
_WITH_METAVAR = (Value.TEXT, Value.REPEATED)


def add_options(parser: pytest.Parser) -> None:
    """Declare every option and ini value with pytest."""
    group = parser.getgroup(PREFIX, "mooncake: accept or reject a KV cache (vLLM + LMCache + Mooncake)")
    for option in DECLARED:
        metavar = {"metavar": option.metavar} if option.value in _WITH_METAVAR else {}
        action = _ACTIONS[option.value]
        group.addoption(option.flag, dest=option.ini, action=action, default=None, help=option.help, **metavar)
        kind, default = _INI_TYPES.get(option.value, (None, ""))
        parser.addini(option.ini, f"see {option.flag}", type=kind, default=default)


def options_of(config: pytest.Config) -> Options:
    """What was given on the command line, else in the ini file."""
    values = {option.field: _value(option, config) for option in DECLARED}
    return Options(**values)


def _value(option: Declared, config: pytest.Config) -> Any:
    given = config.getoption(option.ini)
    text = given if given is not None else config.getini(option.ini)
    if option.value is Value.SWITCH:
        return bool(text)
    if option.value is Value.COUNTED:
        return str(text) if text else None
    return tuple(text) if option.value is Value.REPEATED else text or None


def invocation_dir(config: pytest.Config) -> Path:
    """The directory pytest was called in: relative paths and the default report directory start there."""
    return config.invocation_params.dir
