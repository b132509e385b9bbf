"""Tables of `pytest-mooncake history`: values in, text out. What came from elsewhere is made printable first."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence

from pytest_mooncake.analysis.regression.ruptures_points import Method, points_by
from pytest_mooncake.history.compare import Change
from pytest_mooncake.history.stored_run import Anchor, Finding, StoredClaim, StoredRound, StoredRun
from pytest_mooncake.records import Verdict

__all__ = ["change_table", "counted", "run_lines", "run_table", "shift_lines", "sides_line", "trend_table"]

MISSING = "-"
SHORT = 12
MARKS = {"alarm": "alarm", "confirmation": "confirmed", "change_point": "shift", "new_level": "new level"}


def counted(number: int, what: str = "run") -> str:
    """A number of things in words.

    >>> counted(1), counted(2, "record")
    ('1 run', '2 records')
    """
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def run_table(runs: Sequence[StoredRun], accepted: Collection[str]) -> str:
    """One row a run; `accepted` are the ids of runs that were accepted at some time."""
    head = ("began", "run", "label", "verdict", "warm TTFT ms", "hit share", "fingerprint", "")
    rows = [
        (
            run.started_at[:19],
            run.id,
            run.label or MISSING,
            run.verdict,
            _number(run.metrics.get("warm.ttft_mean_ms")),
            _number(run.metrics.get("warm.hit_share")),
            run.fingerprint[:SHORT],
            "accepted" if run.id in accepted else "",
        )
        for run in runs
    ]
    return _table(head, rows)


def run_lines(run: StoredRun, findings: Sequence[Finding], anchors: Sequence[Anchor]) -> Iterator[str]:
    """All that is kept of one run."""
    yield _printable(f"{run.id}  {run.label or ''}".rstrip())
    yield _printable(f"{run.verdict}, began {run.started_at}, written by pytest-mooncake {run.writer}")
    for anchor in anchors:
        yield _printable(f"accepted by {anchor.who} at {anchor.at}: {anchor.why}")
    for finding in findings:
        yield _printable(f"{MARKS.get(finding.kind, finding.kind)} ({finding.made_at}): {finding.words}")
    yield from _block("release", run.release)
    yield from _block(f"fingerprint {run.fingerprint}", run.parts)
    yield from _block("metrics", {name: _number(value) for name, value in run.metrics.items()})
    yield from _claim_table(run.claims)
    yield from _round_table(run.rounds)


def _claim_table(claims: Sequence[StoredClaim]) -> Iterator[str]:
    rows = [
        (one.claim_id, one.verdict, _number(one.estimate_ratio), _ends(one.low_ratio, one.high_ratio)) for one in claims
    ]
    if rows:
        yield ""
        yield _table(("claim", "verdict", "ratio", "interval"), rows)


def _round_table(rounds: Sequence[StoredRound]) -> Iterator[str]:
    figures = ("ttft_mean_ms", "ttft_p90_ms", "tpot_mean_ms", "request_throughput")
    rows = [
        (one.round, one.kind, one.requests, one.failed, *(_number(one.figures.get(name)) for name in figures))
        for one in rounds
    ]
    if rows:
        yield ""
        yield _table(("round", "kind", "requests", "failed", *figures), rows)


def _block(title: str, values: Mapping[str, object]) -> Iterator[str]:
    lines = [_printable(f"  {name:<32} {value}") for name, value in values.items() if value is not None]
    if lines:
        yield from ("", title, *lines)


def sides_line(before: Sequence[StoredRun], after: Sequence[StoredRun]) -> str:
    """What is compared with what."""
    names = [f"{side[-1].label or side[-1].id} ({counted(len(side))})" for side in (before, after)]
    return _printable(f"B {names[1]} against A {names[0]}, fingerprint {after[-1].fingerprint}")


def change_table(found: Sequence[Change]) -> str:
    """One row a metric; "worse" and "better" name a direction, no verdict."""
    rows = [
        (one.metric, _number(one.before), _number(one.after), _number(one.ratio), _direction(one.worse_share))
        for one in found
    ]
    return _table(("metric", "A", "B", "B/A", ""), rows)


def _direction(worse_share: float | None) -> str:
    if worse_share is None or abs(worse_share) < 0.0005:
        return ""
    return "worse" if worse_share > 0 else "better"


def trend_table(runs: Sequence[StoredRun], names: Sequence[str], findings: Sequence[Finding]) -> str:
    """One row a run, one column a metric, and what was found about the run."""
    found: dict[str, list[str]] = {}
    for finding in findings:
        mark = MARKS.get(finding.kind, finding.kind)
        found.setdefault(finding.run_id or "", []).append(f"{mark} {finding.metric}" if finding.metric else mark)
    rows = [
        (
            run.started_at[:19],
            run.label or run.id,
            run.verdict,
            *(_number(run.metrics.get(name)) for name in names),
            "; ".join(dict.fromkeys(found.get(run.id, []))),
        )
        for run in runs
    ]
    return _table(("began", "release", "verdict", *names, ""), rows)


def shift_lines(runs: Sequence[StoredRun], names: Sequence[str], method: Method) -> Iterator[str]:
    """When each metric shifted and with which release, a line a shift; INVALID runs take no part.

    Raises:
        MissingPartError: ruptures was asked for and is not installed.
    """
    valid = [run for run in runs if run.verdict != Verdict.INVALID]
    for name in names:
        dated = [run for run in valid if 0 < run.metrics.get(name, 0.0) < math.inf]
        for point in points_by(method, [run.metrics[name] for run in dated], [run.release_name for run in dated]):
            yield f"shift of {name}: {point.words}"


def _ends(low: float | None, high: float | None) -> str:
    return MISSING if low is None or high is None else f"{low:.3g} to {high:.3g}"


def _number(value: float | None) -> str:
    return MISSING if value is None else f"{value:.4g}"


def _table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    from tabulate import tabulate

    cells = [[_printable(str(cell)) for cell in row] for row in rows]
    return tabulate(cells, headers=list(head), disable_numparse=True)


def _printable(text: str) -> str:
    """Labels and reasons come from others: no control characters reach the terminal."""
    return "".join(character if character.isprintable() else "?" for character in text)
