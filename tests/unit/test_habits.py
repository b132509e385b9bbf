"""What every change goes through: a changelog fragment that towncrier reads, and the same checks by hand and hook."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
FRAGMENTS = ROOT / "changelog.d"
TEMPLATE = "template.md.jinja"
TOWNCRIER = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["towncrier"]


def test_every_fragment_is_named_by_a_topic_and_a_known_kind() -> None:
    kinds = "|".join(kind["directory"] for kind in TOWNCRIER["type"])
    named = re.compile(rf"[a-z][a-z-]*\.({kinds})\.md")
    names = {path.name for path in FRAGMENTS.iterdir()} - {TEMPLATE}
    assert names
    assert {name for name in names if not named.fullmatch(name)} == set()


def test_every_fragment_is_a_list_of_what_changed() -> None:
    strays = [
        f"{path.name}:{number}"
        for path in sorted(FRAGMENTS.glob("*.md"))
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if not re.match(r"- \S|  \S", line)
    ]
    assert strays == []


def test_towncrier_builds_a_changelog_with_every_fragment_in_it() -> None:
    command = [sys.executable, "-m", "towncrier", "build", "--draft", "--version", "9.9.9", "--date", "2026-01-01"]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    assert built[0] == "## 9.9.9 (2026-01-01)"
    written = [line for path in FRAGMENTS.glob("*.md") for line in path.read_text(encoding="utf-8").splitlines()]
    assert [line for line in written if line not in built] == []


def test_the_hooks_run_what_make_check_runs() -> None:
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"][0]["hooks"]
    checks = re.search(r"^CHECKS := (.+)$", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert checks is not None
    assert [hook["entry"] for hook in hooks] == [f"make --silent {check}" for check in checks[1].split()]
