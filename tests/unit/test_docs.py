"""The documentation names what there is, and only that."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from pytest_mooncake.plan.options import DECLARED

ROOT = Path(__file__).resolve().parents[2]


def test_every_option_is_in_the_reference_and_no_other() -> None:
    text = (ROOT / "docs" / "reference" / "options.md").read_text(encoding="utf-8")
    listed = set(re.findall(r"^\| `(--mooncake-[a-z-]+)", text, flags=re.MULTILINE))
    assert listed == {declared.flag for declared in DECLARED}


def test_every_page_is_in_the_navigation_and_exists() -> None:
    navigation = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]
    named = set(re.findall(r"[\w/-]+\.md", str(navigation)))
    there = {path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")}
    assert named == there


def test_options_that_the_pages_mention_exist() -> None:
    known = {declared.flag for declared in DECLARED} | {"--mooncake-json"}  # an option of `doctor`
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    mentioned = {
        (page.name, flag)
        for page in pages
        for flag in re.findall(r"--mooncake-[a-z]+(?:-[a-z]+)*", page.read_text(encoding="utf-8"))
    }
    assert {(page, flag) for page, flag in mentioned if flag not in known} == set()
