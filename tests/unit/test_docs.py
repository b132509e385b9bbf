"""The documentation names what there is, and only that."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
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


MAPS = ("CONTRIBUTING.md", "docs/explanation/architecture.md")


@pytest.mark.parametrize("page", MAPS)
def test_every_path_on_the_maps_of_the_house_exists(page: str) -> None:
    named = re.findall(r"`([\w.-]+(?:/[\w.-]+)*/?|/)`", (ROOT / page).read_text(encoding="utf-8"))
    paths = {name for name in named if "/" in name or re.search(r"\.(?:py|toml|md)$", name)}
    assert len(paths) > 15
    assert {name for name in paths if not stands(name)} == set()


def stands(name: str) -> bool:
    """Whether a path is there: from the root, from the package, or (a bare name) anywhere in the package."""
    package = ROOT / "pytest_mooncake"
    if (ROOT / name).exists() or (package / name).exists():
        return True
    return "/" not in name.rstrip("/") and any(package.rglob(name.rstrip("/")))


def test_what_contributors_are_sent_to_look_for_is_there() -> None:
    rows = re.findall(r"^\| [^|]+ \| (.+) \|$", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"), re.MULTILINE)
    sent = [(path, word) for row in rows for path, word in re.findall(r"`([\w/]+\.(?:py|toml))`\W+`([\w\[\]]+)`", row)]
    assert ("analysis/evidence/checks/warm.py", "warm_store_hits") in sent
    missing = {one for one in sent if one[1] not in (ROOT / "pytest_mooncake" / one[0]).read_text(encoding="utf-8")}
    assert missing == set()


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md"])
def test_links_of_the_pages_at_the_root_lead_somewhere(page: str) -> None:
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", (ROOT / page).read_text(encoding="utf-8"))
    assert {link for link in links if not (ROOT / link).exists()} == set()


def test_files_that_docstrings_and_pages_name_exist() -> None:
    pages = [page for page in (ROOT / "docs").rglob("*.md") if "adr" not in page.parts]
    sources = [path for room in ("pytest_mooncake", "acceptance", "benchmarks") for path in (ROOT / room).rglob("*.py")]
    named = {
        (source.relative_to(ROOT).as_posix(), path)
        for source in [*pages, *sources]
        for path in re.findall(r"\b(?:tests|pytest_mooncake)/[\w/]+\.py", source.read_text(encoding="utf-8"))
    }
    assert {one for one in named if not (ROOT / one[1]).exists()} == set()
