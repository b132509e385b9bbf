"""The summary on a terminal: table, bars, evidence, notes, reasons, verdict, files. Text in, text out."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from pytest_mooncake.records import Status, Verdict
from pytest_mooncake.report.content import evidence_groups
from pytest_mooncake.report.content.cold_tax import gain_text
from pytest_mooncake.report.content.document import Report
from pytest_mooncake.report.content.reasons import law_label, not_made, notes, reasons, with_release
from pytest_mooncake.report.content.tables import Row, own_error, rows
from pytest_mooncake.report.formats import no_verdict
from pytest_mooncake.report.text import bars, phrases
from pytest_mooncake.report.text.labels import Catalogue, Lang, catalogue
from pytest_mooncake.report.text.numbers import MISSING, percent, signed_percent

COLUMNS = 80
MIN_COLUMNS = 40
COLOURS = {Verdict.PASS: "32;1", Verdict.FAIL: "31;1", Verdict.INCONCLUSIVE: "33;1", Verdict.INVALID: "35;1"}
MAX_REASONS = 8
QUIETEST = -1
"""Below it (`-q -q`) nothing is printed but the verdict and its reasons."""

_UNIT = re.compile(r"[^\s\u1100-\u115f\u2e80-\ua4cf\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f\uff00-\uffe6]+|.")
"""A word of narrow characters, or one wide character or space."""

Paint = Callable[[str, Verdict], str]


@dataclass(frozen=True, slots=True)
class Form:
    """How the table is set: names cut to a width, units at the figures or at the names, ratios of means or not."""

    name_width: int
    units_at_figures: bool = False
    with_means: bool = False
    is_ruled: bool = True


NAME_WIDTHS = range(32, 9, -1)
FORMS = (
    Form(24, units_at_figures=True, with_means=True),
    Form(32, with_means=True),
    *(Form(width, is_ruled=width > 16) for width in NAME_WIDTHS),
)
"""From wide to narrow: names are cut last, for figures without their names mean nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """What every part of the summary needs: the report, the words, the width and the paint."""

    report: Report
    words: Catalogue
    columns: int
    paint: Paint


def summary_lines(
    report: Report,
    *,
    files: Sequence[Path] = (),
    lang: Lang = "en",
    color: bool = False,
    columns: int = COLUMNS,
    verbosity: int = 0,
) -> tuple[str, ...]:
    """The summary of a run.

    Args:
        report: the judged run.
        files: what was written; shown last, as given.
        lang: language of the summary.
        color: whether verdicts are painted with ANSI colours (the caller knows about terminals and NO_COLOR).
        columns: width to keep to; lines of figures are never broken, files' names neither.
        verbosity: as pytest counts it. Below 0 the bars and what is in order are left out, below -1 all but reasons
            and verdict; above 0 every check of evidence has its line.

    Returns:
        Lines without line ends, for a monospaced font in which CJK characters are two columns wide.
    """
    if report.crash is not None:
        return no_verdict.lines(report.crash, lang)
    page = Page(
        report=report,
        words=catalogue(lang),
        columns=max(MIN_COLUMNS, columns),
        paint=_ansi if color else _plain,
    )
    body = [line for part in _parts(verbosity) for line in part(page)]
    if verbosity < QUIETEST:
        return tuple(line for line in body if line)
    lines = (*body, *_files(page, files))
    return tuple(line for before, line in pairwise(("", *lines)) if line or before)  # at most one blank in a row


def _parts(verbosity: int) -> tuple[Callable[[Page], Iterator[str]], ...]:
    if verbosity < QUIETEST:
        return (_simulated, _reasons, _verdict)
    if verbosity < 0:
        return (_notes, _table, _audit, _reasons, _verdict)
    checks = (_checks,) if verbosity > 0 else ()
    return (_notes, _table, _bars, _tax, _evidence, *checks, _audit, _reasons, _verdict)


def _plain(text: str, _verdict: Verdict) -> str:
    return text


def _ansi(text: str, verdict: Verdict) -> str:
    return f"\x1b[{COLOURS[verdict]}m{text}\x1b[0m"


def _simulated(page: Page) -> Iterator[str]:
    if page.report.simulated:
        yield from _wrapped(page, page.words("business.simulated"))
    for sentence in not_made(page.report, page.words):
        yield from _wrapped(page, _one_line(sentence))


def _notes(page: Page) -> Iterator[str]:
    found = notes(page.report, page.words)
    for note in found:
        yield from _wrapped(page, _one_line(note))
    if found:
        yield ""


def _table(page: Page) -> Iterator[str]:
    lines = rows(page.report, page.words)
    tables = [(form, _laid_out(page, lines, form)) for form in FORMS]
    form, text = next((t for t in tables if max(map(_width, t[1])) <= page.columns), tables[-1])
    yield from _painted_rows(page, text)
    if form.with_means and any(row.means_percent is not None for row in lines):
        yield from _wrapped(page, page.words("result.means_note"))
    yield from _own_error(page)
    yield ""


def _own_error(page: Page) -> Iterator[str]:
    sentence = own_error(page.report, page.words)
    if sentence:
        yield from _wrapped(page, sentence)


def _laid_out(page: Page, lines: Sequence[Row], form: Form) -> list[str]:
    from tabulate import tabulate

    keys = ("metric", "cold_short", "warm_short", "change", "target", "verdict")
    text = tabulate(
        [_cells(page, row, form) for row in lines],
        headers=[page.words(f"word.{key}") for key in keys],
        tablefmt="simple" if form.is_ruled else "plain",
        colalign=("left", "right", "right", "right", "right", "left"),
        disable_numparse=True,
    )
    return [_ruled(line, page.columns) for line in text.splitlines()]


def _ruled(line: str, columns: int) -> str:
    """A rule may be as wide as its padded columns; what of it stands out is only padding."""
    return line[:columns] if set(line) <= {"-", " "} else line


def _cells(page: Page, row: Row, form: Form) -> tuple[str, ...]:
    unit = f" {row.unit}" if row.unit and form.units_at_figures else ""
    name = row.label if unit or not row.unit else f"{row.label}, {row.unit}"
    verdict = page.words(f"verdict.{row.verdict.value}") if row.verdict else MISSING
    return (
        _clipped(_one_line(name), form.name_width),
        row.cold_text + unit if row.cold is not None else MISSING,
        row.warm_text + unit if row.warm is not None else MISSING,
        row.change_text if form.with_means else signed_percent(row.change_percent),
        _clipped(_one_line(row.target), 12),
        verdict,
    )


def _painted_rows(page: Page, lines: Sequence[str]) -> Iterator[str]:
    """Paint the verdict that ends a line of the table."""
    named = {page.words(f"verdict.{verdict.value}"): verdict for verdict in Verdict}
    for line in lines:
        bare = line.rstrip()
        word = bare.rpartition(" ")[2]
        yield bare[: -len(word)] + page.paint(word, named[word]) if word in named else bare


def _bars(page: Page) -> Iterator[str]:
    drawn = {row.id: row for row in rows(page.report, page.words)}
    for metric in ("ttft_mean", "request_throughput"):
        yield from _pair(page, drawn[metric])


def _pair(page: Page, row: Row) -> Iterator[str]:
    if row.cold is None and row.warm is None:
        return
    names = (page.words("word.cold_short"), page.words("word.warm_short"))
    figures = (row.cold_with_unit, row.warm_with_unit)
    margin = max(map(_width, names)) + max(map(_width, figures)) + 6
    drawn = bars.pair(row.cold, row.warm, max(8, min(bars.TTFT_WIDTH, page.columns - margin)))
    yield f"{row.label}  {signed_percent(row.change_percent)}"
    for name, bar, figure in zip(names, drawn, figures, strict=True):
        yield f"  {_padded(name, max(map(_width, names)))}  {bar} {figure}"
    yield ""


def _evidence(page: Page) -> Iterator[str]:
    words, found = page.words, page.report.judgement.evidence
    if not found:
        yield from _labelled(page, words("word.evidence"), words("result.no_evidence"))
        return
    rung = evidence_groups.strongest(found)
    line = words(
        "result.evidence_line",
        held=evidence_groups.count(found, Status.HELD),
        broken=evidence_groups.count(found, Status.BROKEN),
        unavailable=evidence_groups.count(found, Status.UNAVAILABLE),
        rung=words(f"rung.{rung.value}") if rung else words("word.none"),
    )
    cached, prompt = page.report.warm.cached_tokens, page.report.warm.prompt_tokens
    if cached is not None and prompt:
        line += "; " + words("result.served", share=percent(cached / prompt, 1))
    yield from _labelled(page, words("word.evidence"), line)
    if page.report.tier_unproven:
        yield from _labelled(page, "", words("result.unproven"))


def _checks(page: Page) -> Iterator[str]:
    """Every check with how its rounds came out, for those who asked for more."""
    for group in evidence_groups.groups(page.report.judgement.evidence):
        state = page.words(f"status.{group.status.value}")
        rounds = f"{group.held}/{group.broken}/{group.unavailable}"
        observed = phrases.translate(group.shown.observed, page.words.lang)
        yield from _labelled(page, "-", _one_line(f"{group.id}: {state} ({rounds}), {observed}"))


def _audit(page: Page) -> Iterator[str]:
    """Warnings; what is broken is among the reasons."""
    told = "\n".join(reasons(page.report, page.words))
    for finding in page.report.judgement.audit:
        if finding.status == "warning" and finding.detail not in told:
            label = page.words("status.warning")
            detail = phrases.translate(finding.detail, page.words.lang)
            yield from _labelled(page, label, _one_line(f"{law_label(page.words, finding.law)}: {detail}"))


def _tax(page: Page) -> Iterator[str]:
    tax = page.report.cold_tax
    if tax is not None:
        gains = {"ttft": tax.ttft_gain, "throughput": tax.throughput_gain, "tax": tax.throughput_tax}
        told = {name: gain_text(gain) for name, gain in gains.items()}
        yield from _wrapped(page, page.words("tax.line", **told))


def _reasons(page: Page) -> Iterator[str]:
    if page.report.passed:
        return
    yield ""
    found = reasons(page.report, page.words)
    for reason in found[:MAX_REASONS]:
        yield from _labelled(page, "-", _one_line(reason))
    if len(found) > MAX_REASONS:
        yield f"  … +{len(found) - MAX_REASONS}"


def _verdict(page: Page) -> Iterator[str]:
    words, report = page.words, page.report
    met, of = report.targets_met
    unproven = f" ({words('result.unproven').partition(':')[0]})" if report.passed and report.tier_unproven else ""
    word = f"{words(f'verdict.{report.verdict.value}')}{unproven}"
    yield ""
    yield f"{words('word.verdict')}: {page.paint(word, report.verdict)}"
    if worse := with_release(report, words):
        yield page.paint(worse, report.gate)
    if of:
        yield from _wrapped(page, words("result.met", met=met, of=of))


def _files(page: Page, files: Sequence[Path]) -> Iterator[str]:
    if files:
        label = page.words("word.files")
        yield f"{label}: {files[0].parent}/"
        yield from _labelled(page, "", "  ".join(path.name for path in files))


def _labelled(page: Page, label: str, text: str) -> Iterator[str]:
    head = f"{label}: " if label and label != "-" else f"{label or ' '} "
    first, *rest = _wrap(text, page.columns - _width(head)) or [""]
    yield head + first
    yield from (" " * _width(head) + line for line in rest)


def _wrapped(page: Page, text: str) -> list[str]:
    return _wrap(text, page.columns)


def _wrap(text: str, columns: int) -> list[str]:
    """Break at spaces and between wide characters, inside a word only if it is wider than a line."""
    lines, used = [""], 0
    for unit in _units(text, columns):
        width = _width(unit)
        if used + width > columns:
            lines.append("")
            used = 0
        lines[-1] += unit
        used += width
    return [line.strip() for line in lines]


def _units(text: str, columns: int) -> Iterator[str]:
    """Words, spaces and wide characters, each at most `columns` wide."""
    for unit in _UNIT.findall(text):
        yield from (unit[at : at + columns] for at in range(0, len(unit), columns))


def _width(text: str) -> int:
    """Columns that `text` takes; text with control characters counts as its length."""
    from wcwidth import wcswidth

    width = wcswidth(text)
    return width if width >= 0 else len(text)


def _padded(text: str, width: int) -> str:
    return text + " " * (width - _width(text))


def _clipped(text: str, width: int) -> str:
    from wcwidth import wcwidth

    if _width(text) <= width:
        return text
    kept, used = "", 0
    for character in text:
        used += max(0, wcwidth(character))
        if used > width - 1:
            break
        kept += character
    return kept + "…"


def _one_line(text: str) -> str:
    """Server text on one line and without control characters: it must not move the cursor or paint."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())
