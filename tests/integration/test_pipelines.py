"""Each pipeline file is valid, and its own script and settings do with every exit code what the guide's table says."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from pytest_mooncake.cli.scaffold import PIPELINES
from tests.support.pipelines import FILES, GATES, Attempt, Start, documents, holds, jenkins_text

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
VERDICTS = {0: "PASS", 1: "FAIL", 10: "INCONCLUSIVE", 11: "INVALID"}
FAKE_PYTEST = """#!/bin/sh
echo run >> "$TRACE"
while [ $# -gt 0 ]; do case "$1" in --mooncake-report) report=$2 ;; esac; shift; done
code=$(cut -d, -f"$(wc -l < "$TRACE")" "$CODES")
[ "$code" -ne 4 ] || exit 4
mkdir -p "$report" && echo "$code" > "$report/code" && echo "{\\"exit_code\\": $code}" > "$report/verdict.json"
[ "$code" -eq 0 ] || exit 1
exit "$TESTS"
"""
FAKE_MOONCAKE = """#!/bin/sh
[ "$1" = verdict ] && [ -e "$2/code" ] || exit 4
code=$(cat "$2/code")
[ "$3" != --fail-only ] || { [ "$code" -eq 1 ] && exit 1 || exit 0; }
exit "$code"
"""


def table() -> dict[tuple[str, str], str]:
    """(pipeline, exit codes) → what the guide says that the gate does."""
    text = (ROOT / "docs" / "guide" / "pipelines.md").read_text(encoding="utf-8")
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]
    head = next(line for line in lines if line[0] == "`verdict` exits")
    rows = lines[lines.index(head) + 2 :][:6]
    return {(name, row[0]): row[at] for row in rows for at, name in enumerate(head) if name in GATES}


CODES = {
    "0 PASS": (0,),
    "1 FAIL": (1,),
    "10 INCONCLUSIVE": (10,),
    "11 INVALID, then 0": (11, 0),
    "11 INVALID, twice": (11, 11),
    "4 nothing measured, internal error": (4, 4),
}


def executable(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
    path.chmod(0o755)


def environment(directory: Path, path: Path, number: int) -> dict[str, str]:
    return {
        "PATH": f"{path}:{os.environ['PATH']}",
        "HOME": str(directory),
        "MOONCAKE_URL": "http://127.0.0.1:9",
        "RELEASE": "v1",
        "REPORTS": str(directory / "reports"),
        "HOSTNAME": f"pod-{number}",
        "CI_JOB_ID": str(number),
        "CI_COMMIT_REF_NAME": "v1",
        "BUILD_NUMBER": "7",
        "BUILD_TAG": "v1",
        "ATTEMPT": str(number),
        "GITHUB_OUTPUT": str(directory / "output"),
    }


def executed(directory: Path, path: Path, extra: Mapping[str, str]) -> Start:
    """Runs a step as its runner does: bash that stops at the first error."""

    def start(script: str, number: int) -> Attempt:
        done = subprocess.run(
            ["bash", "-e", "-o", "pipefail", "-c", script],
            cwd=directory,
            env={**environment(directory, path, number), **extra},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        output, shown = directory / "output", directory / "reports" / "v1" / "verdict.json"
        return Attempt(
            code=done.returncode,
            output=output.read_text(encoding="utf-8") if output.exists() else "",
            verdict=json.loads(shown.read_text(encoding="utf-8")) if shown.exists() else None,
        )

    return start


def with_fakes(directory: Path, codes: tuple[int, ...], *, tests: int = 0) -> Start:
    fakes = directory / "bin"
    fakes.mkdir()
    executable(fakes / "pytest", FAKE_PYTEST)
    executable(fakes / "pytest-mooncake", FAKE_MOONCAKE)
    listed = directory / "codes"
    listed.write_text(",".join(str(code) for code in codes), encoding="utf-8")
    return executed(directory, fakes, {"CODES": str(listed), "TRACE": str(directory / "trace"), "TESTS": str(tests)})


def runs_of(directory: Path) -> int:
    return len((directory / "trace").read_text(encoding="utf-8").splitlines())


@pytest.mark.parametrize("codes", CODES)
@pytest.mark.parametrize("gate", GATES)
def test_a_gate_does_with_an_exit_code_what_the_guide_says(tmp_path: Path, gate: str, codes: str) -> None:
    assert GATES[gate](with_fakes(tmp_path, CODES[codes])) == table()[gate, codes]


@pytest.mark.parametrize("gate", [name for name in GATES if name != "Argo Rollouts"])
def test_only_an_invalid_run_is_measured_again_and_only_once(tmp_path: Path, gate: str) -> None:
    measured = {}
    for code in VERDICTS:
        directory = tmp_path / str(code)
        directory.mkdir()
        GATES[gate](with_fakes(directory, (code, code, code)))
        measured[code] = runs_of(directory)
    assert measured == {0: 1, 1: 1, 10: 1, 11: 2}


def test_the_canary_is_measured_once_whatever_the_verdict(tmp_path: Path) -> None:
    for code in VERDICTS:
        directory = tmp_path / str(code)
        directory.mkdir()
        GATES["Argo Rollouts"](with_fakes(directory, (code, code)))
        assert runs_of(directory) == 1


@pytest.mark.parametrize("gate", GATES)
def test_a_pass_beside_a_failed_test_of_the_users_own_opens_no_gate(tmp_path: Path, gate: str) -> None:
    assert GATES[gate](with_fakes(tmp_path, (0, 0), tests=1)) in {"failed", "FAILURE", "Failed", "aborted"}


def test_an_old_verdict_never_promotes_a_canary(tmp_path: Path) -> None:
    old = tmp_path / "reports" / "v1" / "verdict.json"
    old.parent.mkdir(parents=True)
    old.write_text('{"exit_code": 0}', encoding="utf-8")
    assert GATES["Argo Rollouts"](with_fakes(tmp_path, (4, 4))) == "aborted"
    assert not old.exists()


@pytest.mark.parametrize(("schema", "file"), [("github-workflows", "github.yml"), ("gitlab-ci", "gitlab-ci.yml")])
def test_a_file_is_valid_by_the_schema_of_its_runner(schema: str, file: str) -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", f"vendor.{schema}", str(FILES / file)]
    if schema == "gitlab-ci":
        command[3:3] = ["--data-transform", "gitlab-ci"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def job_specs() -> list[Any]:
    metrics = [metric for part in documents("argo-rollouts.yaml") for metric in part["spec"].get("metrics", ())]
    inside = [metric["provider"]["job"]["spec"] for metric in metrics if "job" in metric["provider"]]
    return [documents("kubernetes-job.yaml")[0]["spec"], *inside]


@pytest.mark.parametrize("spec", job_specs(), ids=["kubernetes", "argo"])
def test_a_job_keeps_to_what_a_pod_failure_policy_asks(spec: Any) -> None:
    pod = spec["template"]["spec"]
    assert pod["restartPolicy"] == "Never"
    assert spec["activeDeadlineSeconds"] > 0
    for rule in spec["podFailurePolicy"]["rules"]:
        assert rule["action"] in {"Ignore", "FailJob", "Count"}
        assert ("onExitCodes" in rule) != ("onPodConditions" in rule)
        if "onExitCodes" in rule:
            assert rule["onExitCodes"]["containerName"] in {one["name"] for one in pod["containers"]}
            assert 0 not in rule["onExitCodes"]["values"]
            assert rule["onExitCodes"]["values"] == sorted(set(rule["onExitCodes"]["values"]))
    claimed = {mount["name"] for one in pod["containers"] for mount in one["volumeMounts"]}
    assert claimed == {volume["name"] for volume in pod["volumes"]}


def test_the_canary_asks_for_the_verdict_in_a_step_after_the_run() -> None:
    parts = documents("argo-rollouts.yaml")
    (rollout,) = (part["spec"] for part in parts if part["kind"] == "Rollout")
    steps = rollout["strategy"]["canary"]["steps"]
    asked = [[one["templateName"] for one in step["analysis"]["templates"]] for step in steps if "analysis" in step]
    assert asked == [["mooncake-run"], ["mooncake-verdict"]]
    templates = {part["metadata"]["name"]: part["spec"] for part in parts if part["kind"] == "AnalysisTemplate"}
    given = {
        step["analysis"]["templates"][0]["templateName"]: {arg["name"] for arg in step["analysis"]["args"]}
        for step in steps
        if "analysis" in step
    }
    assert given == {name: {arg["name"] for arg in spec["args"]} for name, spec in templates.items()}
    assert [metric["failureLimit"] for metric in templates["mooncake-run"]["metrics"]] == [0]


def test_a_condition_of_another_form_is_not_guessed_at() -> None:
    assert holds("result.exit_code == 10", {"exit_code": 10})
    with pytest.raises(AssertionError, match="not a condition"):
        holds("result.exit_code < 2", {"exit_code": 1})
    with pytest.raises(KeyError):
        holds("result.exit_code == 0", {})


def test_no_script_pastes_foreign_text_into_a_shell() -> None:
    texts = [path.read_text(encoding="utf-8") for path in FILES.iterdir()]
    scripts = [part for text in texts for part in re.findall(r"^ *pytest acceptance/.*$", text, flags=re.MULTILINE)]
    assert len(scripts) == len(PIPELINES)
    assert not [script for script in scripts if "${{" in script or "{{" in script]
    assert "'''" in jenkins_text()  # single quotes: Groovy fills nothing in


SMALL = (
    "--mooncake-stack paced.yaml --mooncake-requests 6 --mooncake-prompt-tokens 1024 --mooncake-output-tokens 8 "
    "--mooncake-concurrency 2 -p no:cacheprovider"
)
PACED = """\
kind: simulated
simulated: {base_ms: 60, prefill_us_per_token: 400, cached_us_per_token: 25, decode_ms_per_token: 8}
"""
SIMULATED = {"0 PASS": f"{SMALL} --mooncake-targets few.yaml", "10 INCONCLUSIVE": f"{SMALL} --mooncake-quick"}
FEW = "claims: [{metric: ttft_mean, target: down >= 20 %}]\n"


@pytest.mark.full
@pytest.mark.parametrize("row", SIMULATED)
@pytest.mark.parametrize("gate", GATES)
def test_a_simulated_run_goes_through_the_gate(tmp_path: Path, gate: str, row: str) -> None:
    fakes = tmp_path / "bin"
    fakes.mkdir()
    subprocess.run([BIN / "pytest-mooncake", "init", str(tmp_path)], check=True, capture_output=True, timeout=60)
    (tmp_path / "paced.yaml").write_text(PACED, encoding="utf-8")
    (tmp_path / "few.yaml").write_text(FEW, encoding="utf-8")
    # the file's --mooncake-url is taken out: the simulated stack is started by the run itself
    executable(
        fakes / "pytest",
        "#!/bin/bash\nargs=()\nwhile [ $# -gt 0 ]; do\n"
        '  case $1 in --mooncake-url) shift 2 ;; *) args+=("$1"); shift ;; esac\ndone\n'
        f'exec "{BIN}/pytest" "${{args[@]}}" {SIMULATED[row]}\n',
    )
    executable(fakes / "pytest-mooncake", f'#!/bin/sh\nexec "{BIN}/pytest-mooncake" "$@"\n')
    assert GATES[gate](executed(tmp_path, fakes, {})) == table()[gate, row]
