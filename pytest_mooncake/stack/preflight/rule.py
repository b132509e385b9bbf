"""What a rule is, and how it ends: applied (with findings or none), not applicable, or not for want of something.

A rule is a pure function over the facts. It asks a `Look` for the engines and versions that it speaks of; the look
notes what was there to be judged and what nobody told, so that silence is never mistaken for health.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from pytest_mooncake.stack.preflight.configuration import EngineConfig, Fact, LintFinding, Part, Severity, Subject
from pytest_mooncake.stack.preflight.values import version_key

__all__ = ["GIVE", "Ending", "Found", "Look", "Rule", "RuleOutcome", "page_of", "rule", "rules_of"]

GIVE: Mapping[Part, str] = {
    Part.ARGS: "--vllm-args FILE with the engine's whole command",
    Part.ENV: "the engine's environment (variables in front of its command, or exported above it)",
    Part.LMCACHE: "--lmcache-yaml FILE",
    Part.STORE: "--lmcache-yaml FILE or --mooncake-json FILE with Mooncake's settings",
}


class Ending(StrEnum):
    """How a rule ended."""

    APPLIED = "applied"
    NOT_APPLICABLE = "not applicable"
    NOT_APPLIED = "could not be applied"


@dataclass(frozen=True, slots=True)
class Found:
    """What a check saw, and what differs from what its rule says of all such findings."""

    what: str
    told: Fact | None = None
    why: str | None = None
    fix: str | None = None
    severity: Severity | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleOutcome:
    """How one rule ended on one stack; `give` says what it wants where it could not be applied."""

    id: str
    ending: Ending
    findings: tuple[LintFinding, ...] = ()
    give: tuple[str, ...] = ()


class Look:
    """One rule's view of a stack: what it asks for is noted, `looked` where it was there, `missing` where it was not.

    Args:
        subject: the stack.
    """

    def __init__(self, subject: Subject) -> None:
        self.subject = subject
        self.looked = False
        self.missing: dict[str, None] = {}

    def give(self, what: str) -> None:
        """Note that the rule cannot be applied without `what`."""
        self.missing[what] = None

    def see(self) -> None:
        """Note that there is something that the rule speaks of."""
        self.looked = True

    def engines(self, *parts: Part, when: Callable[[EngineConfig], bool] = lambda _: True) -> Iterator[EngineConfig]:
        """The engines that the rule speaks of and of which these parts are known."""
        for engine in self.subject.engines:
            if not when(engine):
                continue
            unknown = [part for part in parts if not engine.knows(part)]
            for part in unknown:
                self.give(GIVE[part])
            if not unknown:
                self.see()
                yield engine

    def lmcache(self, *parts: Part) -> Iterator[EngineConfig]:
        """The engines with LMCache inside and its settings known."""
        return self.engines(Part.LMCACHE, *parts, when=lambda engine: engine.uses_lmcache)

    def told(self, key: str) -> Iterator[tuple[EngineConfig, Fact | None]]:
        """The engines with LMCache inside, with a setting that somebody told, or of which it is known that nobody did.

        What a variable or an override says is in force whatever the file says, which may be unknown.
        """
        for engine in self.engines(when=lambda engine: engine.uses_lmcache):
            fact = engine.lmcache.get(key)
            if fact is not None or engine.knows(Part.LMCACHE):
                yield engine, fact
            else:
                self.give(GIVE[Part.LMCACHE])

    def stores(self) -> Iterator[EngineConfig]:
        """The engines that set Mooncake up themselves, with its settings known."""
        return self.engines(Part.STORE, when=lambda engine: engine.uses_lmcache or engine.uses_own_store)

    def at_least(self, part: str, version: str) -> bool:
        """Whether a part is known to be of this version or newer; where it is not known, that is noted."""
        known = self._version(part)
        return known is not None and known >= (version_key(version) or ())

    def below(self, part: str, version: str) -> bool:
        """Whether a part is known to be older than this version; where it is not known, that is noted."""
        known = self._version(part)
        return known is not None and known < (version_key(version) or ())

    def tells(self, part: str) -> bool:
        """Whether the version of a part is known, and is a release's."""
        return version_key(self.subject.versions.get(part, "")) is not None

    def _version(self, part: str) -> tuple[int, ...] | None:
        known = version_key(self.subject.versions.get(part, ""))
        if known is None:
            self.give(f"--version {part}=X.Y.Z")
        return known


Check = Callable[[Look], Iterator[Found]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """A rule: its check, and what the reference page says of it.

    `versions` are those it holds for, `facts` where what it claims was read.
    """

    id: str
    title: str
    why: str
    fix: str
    versions: str
    facts: str
    check: Check

    @property
    def severity(self) -> Severity:
        """What its findings are unless one says otherwise; its letter says so."""
        return Severity.ERROR if self.id.startswith("E") else Severity.WARNING

    def apply(self, subject: Subject) -> RuleOutcome:
        """Apply it to a stack."""
        look = Look(subject)
        findings = tuple(self._finding(found) for found in self.check(look))
        if findings or (look.looked and not look.missing):
            ending = Ending.APPLIED
        else:
            ending = Ending.NOT_APPLIED if look.missing else Ending.NOT_APPLICABLE
        return RuleOutcome(id=self.id, ending=ending, findings=findings, give=tuple(look.missing))

    def _finding(self, found: Found) -> LintFinding:
        return LintFinding(
            id=self.id,
            severity=found.severity or self.severity,
            what=_line(found.what),
            why=_line(found.why or self.why),
            fix=_line(found.fix or self.fix),
            where=found.told.where if found.told else "",
        )


def _line(text: str) -> str:
    """What a file says may hold anything; what is printed is one line that moves no cursor."""
    return "".join(char if char.isprintable() else " " for char in text)


def page_of(rules: Iterable[Rule]) -> str:
    """The reference page of rules, in Markdown."""
    lines = [
        "# Lints",
        "",
        "What `pytest-mooncake doctor` and `acceptance/test_preflight.py` look for. This page is made by",
        "`pytest-mooncake doctor --rules`. An *error* makes a measurement wrong or impossible, a *warning* weaker or",
        "riskier; what depends on something that was not told is a *note*. A rule is silent where a version cannot be",
        "read (`0.1.dev1+g…`, `nightly`), and the last line says how many rules were applied, were not applicable, or",
        "could not be applied.",
        "",
    ]
    for one in sorted(rules, key=lambda one: one.id[1:]):
        lines += [
            f"## {one.id}: {one.title.rstrip('.')}",
            "",
            f"- severity: {one.severity}",
            f"- why: {one.why.replace('<', '&lt;')}",
            f"- fix: {one.fix.replace('<', '&lt;')}",
            f"- holds for: {one.versions}",
            f"- facts from: {one.facts}",
            "",
        ]
    return "\n".join(lines).rstrip() + "\n"


_ALL = "all that were read: vLLM 0.11.1 to 0.33, LMCache 0.3.5 to 0.5.6, Mooncake 0.3.4 to 0.3.13"
_rules: dict[str, list[Rule]] = {}


def rule(id_: str, *, why: str, fix: str, versions: str = _ALL, facts: str) -> Callable[[Check], Check]:
    """Make a rule of a check; the first line of its docstring is the rule's title."""

    def note(check: Check) -> Check:
        title = (check.__doc__ or "").strip().partition("\n")[0]
        made = Rule(id=id_, title=title, why=why, fix=fix, versions=versions, facts=facts, check=check)
        _rules.setdefault(check.__module__, []).append(made)
        return check

    return note


def rules_of(module: str) -> tuple[Rule, ...]:
    """The rules that a module made, in its order."""
    return tuple(_rules.get(module, ()))
