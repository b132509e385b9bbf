"""The process that removes keys joins the store without giving memory to it and says what became of its order."""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Mapping
from types import ModuleType

import pytest

from pytest_mooncake.cache import remove_keys_process

ORDER = {
    "local_hostname": "127.0.0.1",
    "metadata_server": "P2PHANDSHAKE",
    "protocol": "tcp",
    "master_server_addr": "127.0.0.1:50051",
    "pattern": "@run%7(@|$)",
}


class Client:
    """Mooncake's client as far as it is used."""

    setup_code = 0
    removed = 3
    seen: list[object]

    def setup(self, settings: Mapping[str, str]) -> int:
        type(self).seen = [dict(settings)]
        return self.setup_code

    def remove_by_regex(self, pattern: str, force: bool) -> int:
        type(self).seen += [pattern, force]
        return self.removed


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> type[Client]:
    made = type("Made", (Client,), {})
    module = ModuleType("mooncake.store")
    module.MooncakeDistributedStore = made  # type: ignore[attr-defined]  # stands for the compiled module
    monkeypatch.setitem(sys.modules, "mooncake", ModuleType("mooncake"))
    monkeypatch.setitem(sys.modules, "mooncake.store", module)
    return made


def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> dict[str, object]:
    ended: list[int] = []
    monkeypatch.setattr(os, "_exit", ended.append)
    monkeypatch.setattr(sys, "stdin", io.StringIO(json.dumps(ORDER)))
    remove_keys_process.main()
    assert ended == [0]
    reply: dict[str, object] = json.loads(capsys.readouterr().out)
    return reply


def test_it_removes_by_pattern_with_force_and_gives_no_memory(
    client: type[Client], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, capsys) == {"removed": 3}
    settings, pattern, force = client.seen
    assert isinstance(settings, dict)
    assert settings["global_segment_size"] == "0"
    assert settings["master_server_addr"] == "127.0.0.1:50051"
    assert (pattern, force) == ("@run%7(@|$)", True)


@pytest.mark.parametrize(
    ("attribute", "value", "problem"),
    [
        ("setup_code", -900, "Mooncake's client could not join 127.0.0.1:50051 (error -900)"),
        ("removed", -900, "the master removed nothing (error -900)"),
    ],
)
def test_error_codes_are_read_because_nothing_is_raised(
    client: type[Client],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    attribute: str,
    value: int,
    problem: str,
) -> None:
    setattr(client, attribute, value)

    assert run(monkeypatch, capsys) == {"problem": problem}


def test_a_missing_library_is_a_sentence(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "mooncake.store", None)

    assert "not installed here, so the keys stay" in str(run(monkeypatch, capsys)["problem"])
