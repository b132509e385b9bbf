"""What pipelines read: JUnit properties, step summary, annotation, pull-request comment, `verdict.json`. All pure.

Limits (docs/reference of GitHub Actions, checked 2026-11): a step summary holds 1 MiB, a comment 65,536 characters;
10 annotations of a kind are shown for a step, hence one a verdict.
"""

from __future__ import annotations

from typing import Any

from pytest_mooncake.records import Claim, Gate, Verdict
from pytest_mooncake.report import exit_codes
from pytest_mooncake.report.content import reasons
from pytest_mooncake.report.content.document import Report
from pytest_mooncake.report.content.tables import own_error, rows
from pytest_mooncake.report.formats import no_verdict
from pytest_mooncake.report.text import escape, numbers
from pytest_mooncake.report.text.labels import Catalogue, Lang, catalogue, definitions

SUMMARY_BYTES = 1024 * 1024
COMMENT_CHARACTERS = 65_536
ANNOTATION_CHARACTERS = 1_000
MAX_REASONS = 20
LEVELS = {Verdict.PASS: "notice", Verdict.FAIL: "error", Verdict.INCONCLUSIVE: "warning", Verdict.INVALID: "warning"}
COMMENT_MARK = "<!-- pytest-mooncake -->"
"""First line of the comment, by which a pipeline finds its own comment to update it."""
CUT = "\n\n…\n"


def claim_properties(claim: Claim) -> tuple[tuple[str, str], ...]:
    """JUnit properties of the test that asserts one claim: metric, ratio, interval, target, verdict."""
    facts = {
        "metric": claim.id,
        "verdict": claim.verdict.value,
        "ratio": _plain(claim.estimate_ratio),
        "interval_low": _plain(claim.ci_ratio[0] if claim.ci_ratio else None),
        "interval_high": _plain(claim.ci_ratio[1] if claim.ci_ratio else None),
        "confidence": _plain(claim.confidence),
        "target_ratio": _plain(claim.target_ratio),
        "trials": str(claim.trials),
    }
    return tuple((f"mooncake.{name}", text) for name, text in facts.items() if text)


def run_properties(report: Report) -> tuple[tuple[str, str], ...]:
    """JUnit properties of the whole run."""
    met, of = report.targets_met
    facts = {
        "run": report.run_id,
        "label": report.label or "",
        "verdict": report.verdict.value,
        "targets_met": f"{met}/{of}",
        "simulated": "true" if report.simulated else "",
        "fingerprint": report.setting.fingerprint or "",
        **{f"gate.{gate.id}": _gate_fact(gate) for gate in report.judgement.gates},
        **{f"not_made.{name}": why for name, why in report.beside_not_made.items()},
    }
    return tuple((f"mooncake.{name}", escape.one_line(text)) for name, text in facts.items() if text)


def _gate_fact(gate: Gate) -> str:
    return f"{gate.status.value}: {gate.reason}" if gate.reason else gate.status.value


def facts_line(claim: Claim) -> str:
    """The same facts in one line, for the failure text: some viewers hide properties."""
    return ", ".join(f"{name.removeprefix('mooncake.')}={text}" for name, text in claim_properties(claim))


def verdict_json(report: Report) -> dict[str, Any]:
    """`verdict.json`: what a rollout controller needs and nothing else."""
    if report.crash is not None:
        return no_verdict.verdict_json(report.crash, report.run_id)
    met, of = report.targets_met
    return {
        "schema": "pytest-mooncake/verdict/1",
        "run": report.run_id,
        "label": report.label,
        "verdict": report.verdict.value,
        "exit_code": exit_codes.of_command(report),
        "gates": {gate.id: gate.status.value for gate in report.judgement.gates},
        "simulated": report.simulated,
        "targets_met": {"met": met, "of": of},
        "reasons": list(report.judgement.reasons),
        "release": _release_json(report),
        "versus": _versus_json(report),
        "claims": {
            claim.id: {
                "verdict": claim.verdict.value,
                "estimate_ratio": claim.estimate_ratio,
                "ci_ratio": list(claim.ci_ratio) if claim.ci_ratio else None,
                "target_ratio": claim.target_ratio,
            }
            for claim in report.judgement.claims
        },
    }


def _release_json(report: Report) -> dict[str, Any] | None:
    """What the history says of this release; `verdict` is null where it could not be compared."""
    found = report.release
    if found is None:
        return None
    return {
        "verdict": found.verdict.value if found.verdict else None,
        "words": found.words,
        "confirmed": list(found.confirmed),
    }


def _versus_json(report: Report) -> dict[str, Any] | None:
    """What turns with the old endpoint say, without their figures."""
    found = report.versus
    if found is None:
        return None
    failed = {"failed_new": found.failed_new, "failed_old": found.failed_old}
    return {"slower": list(found.slower), "decided": found.is_decided, "words": found.text, **failed}


def verdict_text(report: Report) -> str:
    """`verdict.json` as it is written."""
    import orjson

    return orjson.dumps(verdict_json(report), option=orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY).decode() + "\n"


def annotation(report: Report, lang: Lang = "en") -> str:
    """The one workflow command of a run: notice, warning or error by its verdict."""
    if report.crash is not None:
        return no_verdict.annotation(report.crash)
    words = catalogue(lang)
    title = f"pytest-mooncake: {report.verdict.value}"
    why = "; ".join((*reasons.not_made(report, words), *reasons.reasons(report, words)))
    message = escape.one_line(why)[:ANNOTATION_CHARACTERS]
    return f"::{LEVELS[report.verdict]} title={_command_property(title)}::{_command_data(message)}"


def step_summary(report: Report, lang: Lang = "en", *, held_bytes: int = 0) -> str:
    """Markdown for `GITHUB_STEP_SUMMARY`: with the `held_bytes` that are there already, below 1 MiB of UTF-8."""
    text = _short_report(report, catalogue(lang))
    encoded = text.encode()
    left = SUMMARY_BYTES - held_bytes
    if len(encoded) < left:
        return text
    return encoded[: left - 16].decode(errors="ignore") + CUT if left > 16 else ""


def comment(report: Report, lang: Lang = "en") -> str:
    """Markdown for a pull request, below 65,536 characters; its first line marks it as ours."""
    text = f"{COMMENT_MARK}\n{_short_report(report, catalogue(lang))}"
    return text if len(text) < COMMENT_CHARACTERS else text[: COMMENT_CHARACTERS - len(CUT) - 1] + CUT


def _short_report(report: Report, words: Catalogue) -> str:
    if report.crash is not None:
        return no_verdict.markdown(report.crash, report.run_id, words.lang)
    met, of = report.targets_met
    told = "" if words.lang == "en" else f" ({report.verdict.value})"
    head = f"## pytest-mooncake: {words(f'verdict.{report.verdict.value}')}{told}"
    why = [f"- {escape.markdown(reason)}" for reason in reasons.reasons(report, words)[:MAX_REASONS]]
    notes = [f"> {escape.markdown(note)}" for note in reasons.notes(report, words)]
    worse = reasons.with_release(report, words)
    blocks = [
        head,
        f"**{worse}**" if worse else "",
        "\n>\n".join(notes),
        _table(report, words),
        _counted(report, words),
        words("result.met", met=met, of=of),
        "\n".join(why),
        f"**{words(f'advice.{reasons.advice_key(report)}')}**",
        escape.markdown(report.run_id),
    ]
    return "\n\n".join(block for block in blocks if block) + "\n"


def _counted(report: Report, words: Catalogue) -> str:
    """How the figures of the table are counted and how wrong the client was; nothing for figures from elsewhere."""
    if report.protocol is None:
        return ""
    formulae = definitions(words)
    named = (("TTFT", "ttft_ms"), ("TPOT", "tpot_ms"), (words("metric.request_throughput"), "request_throughput"))
    told = [own_error(report, words), *(f"{name} = {formulae[key]}" for name, key in named)]
    return "  \n".join(escape.markdown(line) for line in told if line)


def _table(report: Report, words: Catalogue) -> str:
    keys = ("metric", "cold_short", "warm_short", "change", "interval", "target", "verdict")
    lines = [[words(f"word.{key}") for key in keys], ["---"] * len(keys)]
    for row in rows(report, words):
        verdict = words(f"verdict.{row.verdict.value}") if row.verdict else numbers.MISSING
        ends = numbers.interval(row.claim.ci_ratio) if row.claim else numbers.MISSING
        cells = (row.label, row.cold_with_unit, row.warm_with_unit, row.change_text, ends)
        lines.append([escape.markdown(cell) for cell in (*cells, row.target, verdict)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _plain(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"


def _command_data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _command_property(text: str) -> str:
    return _command_data(text).replace(":", "%3A").replace(",", "%2C")
