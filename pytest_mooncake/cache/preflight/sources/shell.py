r"""A shell script as far as lints need it: its simple commands, the environment each has, the files it writes.

No shell runs. Known variables are expanded (`$A`, `${A:-b}`); what a program would print (`$(…)`) stays as written.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from pytest_mooncake.cache.preflight.subject import Fact, Facts
from pytest_mooncake.errors import PlanError

__all__ = ["Command", "Document", "Script", "expand", "in_container", "read_script"]

_ASSIGNMENT = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)\+?=(.*)", re.DOTALL)
_VARIABLE = re.compile(r"\$(?:([A-Za-z_][A-Za-z0-9_]*)|\{([A-Za-z_][A-Za-z0-9_]*)(?::?-([^{}]*))?\})")
_OPERATORS = ("&&", "||", ";;", "<<<", "<<-", "<<", ">>", ">&", "<&", "&>", "<(", ">(", ";", "&", "|", "<", ">", "\n")
_OPERATORS += ("(", ")")
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


@dataclass(slots=True)
class _Token:
    """A word (parts, each with whether variables in it are expanded) or an operator."""

    line: int
    operator: str = ""
    parts: list[tuple[str, bool]] = field(default_factory=list)
    here: str = ""

    @property
    def raw(self) -> str:
        return "".join(text for text, _ in self.parts)


def expand(text: str, values: Mapping[str, str]) -> str:
    """Put known variables, and defaults of unknown ones, into a text; what is not known stays as written.

    >>> expand("$A ${B:-2} $C", {"A": "1"})
    '1 2 $C'
    """

    def value(match: re.Match[str]) -> str:
        name = match[1] or match[2]
        return values.get(name, match[3] if match[3] is not None else match[0])

    return _VARIABLE.sub(value, text)


class _Reader:
    """Splits a text into words and operators, as a shell does."""

    def __init__(self, text: str, source: str, first_line: int) -> None:
        self.text = text
        self.source = source
        self.at = 0
        self.line = first_line
        self.tokens: list[_Token] = []
        self.awaited: list[tuple[int, bool]] = []

    def tokens_of(self) -> list[_Token]:
        while self.at < len(self.text):
            char = self.text[self.at]
            if char in " \t\r":
                self.at += 1
            elif self.text.startswith(("\\\n", "\\\r\n"), self.at):
                self.at = self.text.index("\n", self.at) + 1
                self.line += 1
            elif char == "#":
                self.at = self._end_of_line()
            elif operator := next((op for op in _OPERATORS if self.text.startswith(op, self.at)), ""):
                self._operator(operator)
            else:
                self._word()
        return self.tokens

    def _end_of_line(self) -> int:
        end = self.text.find("\n", self.at)
        return len(self.text) if end < 0 else end

    def _operator(self, operator: str) -> None:
        token = _Token(self.line, operator)
        self.tokens.append(token)
        self.at += len(operator)
        if operator in {"<<", "<<-"}:
            self.awaited.append((len(self.tokens) - 1, operator == "<<-"))
        if operator == "\n":
            self.line += 1
            self._here_documents()

    def _here_documents(self) -> None:
        for place, stripped in self.awaited:
            token = self.tokens[place]
            delimiter = self.tokens[place + 1].raw  # a line break at least stands behind it
            token.line = self.line
            lines = []
            while self.at < len(self.text):
                end = self._end_of_line()
                line, self.at = self.text[self.at : end], end + 1
                self.line += 1
                line = line.lstrip("\t") if stripped else line
                if line.rstrip("\r") == delimiter:
                    break
                lines.append(line)
            token.here = "\n".join(lines)
        self.awaited = []

    def _word(self) -> None:
        token = _Token(self.line)
        self.tokens.append(token)
        while self.at < len(self.text):
            char = self.text[self.at]
            if char in " \t\r\n;&|<>()":
                break
            if char == "'":
                self._quoted("'", token)
            elif char == '"':
                self._double(token)
            elif char == "\\":
                self._escaped(token)
            elif self.text.startswith("$(", self.at):
                self._substitution(token)
            else:
                token.parts.append((char, True))
                self.at += 1
        token.parts = _joined(token.parts)

    def _escaped(self, token: _Token) -> None:
        char = self.text[self.at + 1 : self.at + 2]
        self.at += 2
        if char == "\n":
            self.line += 1
        else:
            token.parts.append((char, False))

    def _quoted(self, quote: str, token: _Token) -> None:
        end = self.text.find(quote, self.at + 1)
        if end < 0:
            self._refuse()
        inside = self.text[self.at + 1 : end]
        token.parts.append((inside, False))
        self.line += inside.count("\n")
        self.at = end + 1

    def _double(self, token: _Token) -> None:
        start, self.at = self.at, self.at + 1
        token.parts.append(("", False))
        while self.at < len(self.text) and self.text[self.at] != '"':
            char = self.text[self.at]
            if char == "\\" and self.text[self.at + 1 : self.at + 2] in ('"', "\\", "$", "`", "\n"):
                self._escaped(token)
                continue
            self.line += char == "\n"
            token.parts.append((char, True))
            self.at += 1
        if self.at >= len(self.text):
            self.at = start
            self._refuse()
        self.at += 1

    def _substitution(self, token: _Token) -> None:
        depth, start = 0, self.at
        while self.at < len(self.text):
            depth += {"(": 1, ")": -1}.get(self.text[self.at], 0)
            self.at += 1
            if depth == 0 and self.at > start + 1:
                break
        inside = self.text[start : self.at]
        self.line += inside.count("\n")
        token.parts.append((inside, False))

    def _refuse(self) -> None:
        raise PlanError(
            f"{self.source}:{self.line}: not a command line (No closing quotation); write it as in a shell: "
            "vllm serve MODEL …"
        )


def _joined(parts: list[tuple[str, bool]]) -> list[tuple[str, bool]]:
    joined: list[tuple[str, bool]] = []
    for text, expanded in parts:
        if joined and joined[-1][1] == expanded:
            joined[-1] = (joined[-1][0] + text, expanded)
        else:
            joined.append((text, expanded))
    return joined


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
    tokens = _Reader(text, source, first_line).tokens_of()
    state = _State(source, dict(env or {}), depth)
    for group in _groups(tokens):
        state.take(group)
    return Script(commands=tuple(state.commands), documents=state.documents)


def _groups(tokens: list[_Token]) -> Iterator[list[_Token]]:
    group: list[_Token] = []
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

    def take(self, group: list[_Token]) -> None:
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

    def _split(self, group: list[_Token]) -> tuple[list[str], str, _Token | None]:
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

    def _run(self, words: list[str], env: dict[str, Fact], where: str, here: _Token | None) -> None:
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
