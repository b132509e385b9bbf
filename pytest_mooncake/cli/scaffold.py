"""What comes with the package to be copied: `acceptance/`, `fixtures/`, `conftest.py`, and a gate for each pipeline."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from pytest_mooncake.errors import UsageError
from pytest_mooncake.plan.sources.lookup import packed_root

PACKED = ("acceptance", "fixtures", "conftest.py")
PIPELINES = {
    "github": ("github.yml", ".github/workflows/mooncake.yml"),
    "gitlab": ("gitlab-ci.yml", "mooncake.gitlab-ci.yml"),
    "jenkins": ("Jenkinsfile", "Jenkinsfile.mooncake"),
    "kubernetes": ("kubernetes-job.yaml", "mooncake-job.yaml"),
    "argo": ("argo-rollouts.yaml", "mooncake-rollout.yaml"),
}
"""For each pipeline its file here and where it belongs in a repository."""


def write_suite(directory: Path, *, force: bool = False) -> tuple[Path, ...]:
    """Copy the suite into `directory`; returns the files written.

    Raises:
        UsageError: a file is there already and `force` is not given; nothing is written then.
    """
    root = packed_root()
    sources = [file for name in PACKED for file in _files(root / name)]
    return _copied({source: directory / source.relative_to(root) for source in sources}, force=force)


def write_pipeline(directory: Path, name: str, *, force: bool = False) -> Path:
    """Copy the gate of one pipeline to where it belongs in `directory`; returns the file written.

    Raises:
        UsageError: no such pipeline, or its file is there already and `force` is not given.
    """
    if name not in PIPELINES:
        raise UsageError(f"--pipeline {name}: expected one of {', '.join(PIPELINES)}")
    source, target = PIPELINES[name]
    (written,) = _copied({Path(__file__).parent / "pipelines" / source: directory / target}, force=force)
    return written


def _copied(places: Mapping[Path, Path], *, force: bool) -> tuple[Path, ...]:
    there = [target for target in places.values() if target.exists()]
    if there and not force:
        raise UsageError(f"{there[0]} is there already: nothing was written; give --force to overwrite")
    for source, target in places.items():
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
    return tuple(places.values())


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    return sorted(f for f in path.rglob("*") if f.is_file() and f.suffix in {".py", ".yaml"})
