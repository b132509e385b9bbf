"""The pipeline files read by their own words: the script of a step, and what the file's settings make of an exit code.

The runners themselves (a GitHub runner, GitLab's, Jenkins, Kubernetes, Argo) are not started; their rules for these
settings are written down here, each in one function.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

FILES = Path(__file__).resolve().parents[2] / "pytest_mooncake" / "cli" / "pipelines"


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One start of a step's script, and what it left where the next step looks."""

    code: int
    output: str = ""
    verdict: Mapping[str, Any] | None = None


Start = Callable[[str, int], Attempt]
"""Runs a script for the n-th time (1, 2, …)."""


def documents(name: str) -> list[Any]:
    return list(yaml.safe_load_all((FILES / name).read_text(encoding="utf-8")))


def jenkins_text() -> str:
    return (FILES / "Jenkinsfile").read_text(encoding="utf-8")


def github(start: Start) -> str:
    jobs = documents("github.yml")[0]["jobs"]
    (step,) = (step for step in jobs["gate"]["steps"] if step.get("id") == "gate")
    attempt = start(step["run"], 1)
    said = re.findall(r"^verdict=(\w+)$", attempt.output, flags=re.MULTILINE)[-1]
    if attempt.code:
        return "failed"
    (wanted,) = re.findall(r"needs\.gate\.outputs\.verdict == '(\w+)'", jobs["deploy"]["if"])
    return "deployed" if said == wanted else "green, not deployed"


def gitlab(start: Start) -> str:
    job = documents("gitlab-ci.yml")[0]["mooncake"]
    for number in range(1, job["retry"]["max"] + 2):
        code = start("\n".join(job["script"]), number).code
        if code not in job["retry"]["exit_codes"]:
            break
    if code == 0:
        return "passed"
    return "passed with a warning" if code in job["allow_failure"]["exit_codes"] else "failed"


def jenkins(start: Start) -> str:
    """The three decisions of the `script` block, taken in the order in which they stand."""
    text = jenkins_text()
    (script,) = re.findall(r"script: '''(.*?)'''", text, flags=re.DOTALL)
    (again,) = re.findall(r"if \(code == (\d+)\) \{ code = gate\(2\) \}", text)
    ((unstable,),) = (re.findall(r"if \(code == (\d+)\) \{ unstable\(.*?\} else if \(code != 0\) \{ error\(", text),)
    code = start(script, 1).code
    if code == int(again):
        code = start(script, 2).code
    if code == int(unstable):
        return "UNSTABLE"
    return "FAILURE" if code else "SUCCESS"


def job(spec: Mapping[str, Any], start: Start) -> tuple[str, Attempt]:
    """What the Job controller makes of its pods: FailJob ends it, any other failure counts against backoffLimit."""
    (container,) = spec["template"]["spec"]["containers"]
    rules = [rule for rule in spec["podFailurePolicy"]["rules"] if "onExitCodes" in rule]
    for number in range(1, spec["backoffLimit"] + 2):
        attempt = start(container["args"][0], number)
        if attempt.code == 0:
            return "Complete", attempt
        if any(rule["action"] == "FailJob" and attempt.code in rule["onExitCodes"]["values"] for rule in rules):
            break
    return "Failed", attempt


def kubernetes(start: Start) -> str:
    return job(documents("kubernetes-job.yaml")[0]["spec"], start)[0]


def argo(start: Start) -> str:
    """Two steps: a Job that did not complete aborts; then the verdict's two conditions, neither of them: a pause."""
    parts = {(part["kind"], part["metadata"]["name"]): part["spec"] for part in documents("argo-rollouts.yaml")}
    (run,) = parts["AnalysisTemplate", "mooncake-run"]["metrics"]
    (asked,) = parts["AnalysisTemplate", "mooncake-verdict"]["metrics"]
    ended, attempt = job(run["provider"]["job"]["spec"], start)
    if ended != "Complete":
        return "aborted"
    if attempt.verdict is None:
        return "aborted: no verdict"
    if holds(asked["failureCondition"], attempt.verdict):
        return "aborted"
    return "promoted" if holds(asked["successCondition"], attempt.verdict) else "paused"


def holds(condition: str, result: Mapping[str, Any]) -> bool:
    """`result.FIELD == NUMBER`, the one form that the templates use; a field that is missing is an error in Argo."""
    parsed = ast.parse(condition, mode="eval").body
    match parsed:
        case ast.Compare(
            left=ast.Attribute(value=ast.Name(id="result"), attr=field),
            ops=[ast.Eq()],
            comparators=[ast.Constant(value=value)],
        ):
            return bool(json.loads(json.dumps(result))[field] == value)
    raise AssertionError(f"not a condition that is understood here: {condition}")


GATES: Mapping[str, Callable[[Start], str]] = {
    "GitHub Actions": github,
    "GitLab CI": gitlab,
    "Jenkins": jenkins,
    "Kubernetes Job": kubernetes,
    "Argo Rollouts": argo,
}
