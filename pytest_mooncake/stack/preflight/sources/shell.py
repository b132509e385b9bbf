r"""A shell script as far as lints need it: its simple commands, the environment each has, the files it writes.

No shell runs. Known variables are expanded (`$A`, `${A:-b}`); what a program would print (`$(…)`) stays as written.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from pytest_mooncake.stack.preflight.configuration import Fact, Facts
from pytest_mooncake.stack.preflight.sources.tokens import Token, tokens_of

__all__ = ["Command", "Document", "Script", "expand", "in_container", "read_script"]

_ASSIGNMENT = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)\+?=(.*)", re.DOTALL)
_VARIABLE = re.compile(r"\$(?:([A-Za-z_][A-Za-z0-9_]*)|\{([A-Za-z_][A-Za-z0-9_]*)(?::?-([^{}]*))?\})")
_SEPARATORS = frozenset({"&&", "||", ";;", ";", "&", "|", "\n", "(", ")"})
_KEYWORDS = frozenset({"if", "then", "else", "elif", "do", "while", "until", "!", "{", "}", "time", "fi", "done"})
_SHELL = re.compile(r"(?:.*/)?(?:ba|da|z|k|a)?sh")
_ELSEWHERE = re.compile(r"(?:.*/)?(docker|podman|nerdctl|kubectl|ssh)")
_DEEPEST = 4


@dataclass(frozen=True, slots=True)
class Document:
    """A file that came inside another one: its text, and where its first line stands."""

    text: str
    where: str
    line: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A simple command: its words, and the environment it has (exported before it, or set in front of it)."""

    words: tuple[str, ...]
    env: Facts
    where: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """What a script runs, in order, and the files that it writes by here-documents, by path."""

    commands: tuple[Command, ...]
    documents: Mapping[str, Document]


def expand(text: str, values: Mapping[str, str]) -> str:
    """Put known variables, and defaults of unknown ones, into a text; what is not known stays as written.

    >>> expand("$A ${B:-2} $C", {"A": "1"})
    '1 2 $C'
    """

    def value(match: re.Match[str]) -> str:
        name = match[1] or match[2]
        return values.get(name, match[3] if match[3] is not None else match[0])

    return _VARIABLE.sub(value, text)


def read_script(text: str, source: str, *, first_line: int = 1, env: Facts | None = None, depth: int = 0) -> Script:
    r"""Read a shell script.

    Args:
        text: the script.
        source: its name, for `where`.
        first_line: line on which it begins in `source`.
        env: what is exported already.
        depth: how many scripts (`bash -c`) it is inside of.

    Raises:
        PlanError: a quotation mark is open.

    >>> script = read_script("export A=1\nB=2 vllm serve m --port 1  # ours", "x.sh")
    >>> [(c.words, {k: f.value for k, f in c.env.items()}) for c in script.commands]
    [(('vllm', 'serve', 'm', '--port', '1'), {'A': '1', 'B': '2'})]
    """
    state = _State(source, dict(env or {}), depth)
    for group in _groups(tokens_of(text, source, first_line)):
        state.take(group)
    return Script(commands=tuple(state.commands), documents=state.documents)


def _groups(tokens: list[Token]) -> Iterator[list[Token]]:
    group: list[Token] = []
    for token in tokens:
        if token.operator in _SEPARATORS:
            if group:
                yield group
            group = []
        else:
            group.append(token)
    if group:
        yield group


class _State:
    """Runs through the simple commands in order and keeps what they set and write."""

    def __init__(self, source: str, exported: dict[str, Fact], depth: int) -> None:
        self.source = source
        self.exported = exported
        self.depth = depth
        self.known = {name: str(fact.value) for name, fact in exported.items()}
        self.all_exported = False
        self.commands: list[Command] = []
        self.documents: dict[str, Document] = {}

    def take(self, group: list[Token]) -> None:
        words, target, here = self._split(group)
        where = f"{self.source}:{group[0].line}"
        while words and words[0] in _KEYWORDS:
            words.pop(0)
        set_in_front: dict[str, Fact] = {}
        while words and (match := _ASSIGNMENT.fullmatch(words[0])):
            set_in_front[match[1]] = Fact(match[2], where)
            words.pop(0)
        if target and (here or words[:1] in (["echo"], ["printf"])):
            text, line = (here.here, here.line) if here else (" ".join(words[1:]), group[0].line)
            self.documents[target] = Document(expand(text, self.known), self.source, line)
        if not words:
            self._assign(set_in_front)
        elif not self._built_in(words, where):
            self._run(words, {**self.exported, **set_in_front}, where, here)

    def _split(self, group: list[Token]) -> tuple[list[str], str, Token | None]:
        """Words without redirections, the file that the output goes to, the here-document."""
        words: list[str] = []
        target, here, skip = "", None, ""
        for token in group:
            text = "".join(expand(part, self.known) if expanded else part for part, expanded in token.parts)
            if token.operator:
                skip = token.operator
                here = token if token.operator in {"<<", "<<-"} else here
                if words and words[-1] in {"1", "2"} and skip.startswith(">"):
                    words.pop()
            elif skip:
                target = text if skip in {">", ">>"} and not text.startswith("&") else target
                skip = ""
            else:
                words.append(text)
        if words[:1] == ["tee"] and here and len(words) > 1:
            target = words[-1]
        return words, target, here

    def _assign(self, values: Mapping[str, Fact]) -> None:
        for name, fact in values.items():
            self.known[name] = str(fact.value)
            if self.all_exported or name in self.exported:
                self.exported[name] = fact

    def _built_in(self, words: list[str], where: str) -> bool:
        """Carry out what changes the environment; False for anything else."""
        first, rest = words[0], words[1:]
        if first == "export" or (first in {"declare", "typeset"} and "-x" in rest):
            self._export([word for word in rest if not word.startswith("-")], where)
        elif first == "set":
            self.all_exported = self.all_exported or "-a" in rest or "allexport" in rest
        elif first == "unset":
            for name in rest:
                self.exported.pop(name, None)
                self.known.pop(name, None)
        else:
            return False
        return True

    def _export(self, words: list[str], where: str) -> None:
        for word in words:
            match = _ASSIGNMENT.fullmatch(word)
            name = match[1] if match else word
            if match:
                self.known[name] = match[2]
            if name in self.known:
                self.exported[name] = Fact(self.known[name], where)

    def _run(self, words: list[str], env: dict[str, Fact], where: str, here: Token | None) -> None:
        inner, line = _inner_script(words), int(where.rpartition(":")[2])
        if inner is None and here and _SHELL.fullmatch(words[0]):
            inner, line = here.here, here.line
        if in_container(words):
            env = {}
        if inner is None or self.depth >= _DEEPEST:
            self.commands.append(Command(words=tuple(words), env=env, where=where))
            return
        outer = {**env, **_set_on_the_way(words, where)}
        script = read_script(inner, self.source, first_line=line, env=outer, depth=self.depth + 1)
        self.commands += script.commands
        self.documents |= script.documents


def in_container(words: Sequence[str]) -> bool:
    """Whether a command runs elsewhere, where the script's own exports do not reach.

    >>> in_container(["sudo", "docker", "run", "image"]), in_container(["vllm", "serve", "docker"])
    (True, False)
    """
    return any(_ELSEWHERE.fullmatch(word) for word in words[:2])


def _inner_script(words: list[str]) -> str | None:
    """What `bash -c TEXT`, anywhere behind wrappers, runs."""
    for place, word in enumerate(words[:-2]):
        if _SHELL.fullmatch(word):
            for option in range(place + 1, len(words) - 1):
                if re.fullmatch(r"-[a-z]*c", words[option]):
                    return words[option + 1]
                if not words[option].startswith("-"):
                    break
    return None


def _set_on_the_way(words: list[str], where: str) -> dict[str, Fact]:
    """Variables of `env A=1 …` and `docker run -e A=1 …` in front of an inner script."""
    found = {}
    for word in words:
        if match := _ASSIGNMENT.fullmatch(word.removeprefix("--env=")):
            found[match[1]] = Fact(match[2], where)
        elif _SHELL.fullmatch(word):
            break
    return found
