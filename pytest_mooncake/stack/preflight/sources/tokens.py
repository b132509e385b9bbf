"""A shell script's words and operators, as a shell splits it: quotes, escapes, comments, here-documents."""

from __future__ import annotations

from dataclasses import dataclass, field

from pytest_mooncake.errors import PlanError

__all__ = ["Token", "tokens_of"]

_OPERATORS: tuple[str, ...] = (
    "&&",
    "||",
    ";;",
    "<<<",
    "<<-",
    "<<",
    ">>",
    ">&",
    "<&",
    "&>",
    "<(",
    ">(",
    ";",
    "&",
    "|",
    "<",
    ">",
    "\n",
)
_OPERATORS += ("(", ")")


@dataclass(slots=True)
class Token:
    """A word (parts, each with whether variables in it are expanded) or an operator."""

    line: int
    operator: str = ""
    parts: list[tuple[str, bool]] = field(default_factory=list)
    here: str = ""

    @property
    def raw(self) -> str:
        """The word as it is written, quotes taken off."""
        return "".join(text for text, _ in self.parts)


class _Reader:
    """Splits a text into words and operators, as a shell does."""

    def __init__(self, text: str, source: str, first_line: int) -> None:
        self.text = text
        self.source = source
        self.at = 0
        self.line = first_line
        self.tokens: list[Token] = []
        self.awaited: list[tuple[int, bool]] = []

    def tokens_of(self) -> list[Token]:
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
        token = Token(self.line, operator)
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
        token = Token(self.line)
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

    def _escaped(self, token: Token) -> None:
        char = self.text[self.at + 1 : self.at + 2]
        self.at += 2
        if char == "\n":
            self.line += 1
        else:
            token.parts.append((char, False))

    def _quoted(self, quote: str, token: Token) -> None:
        end = self.text.find(quote, self.at + 1)
        if end < 0:
            self._refuse()
        inside = self.text[self.at + 1 : end]
        token.parts.append((inside, False))
        self.line += inside.count("\n")
        self.at = end + 1

    def _double(self, token: Token) -> None:
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

    def _substitution(self, token: Token) -> None:
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


def tokens_of(text: str, source: str, first_line: int) -> list[Token]:
    """Split a script into words and operators.

    Raises:
        PlanError: a quotation mark is open.
    """
    return _Reader(text, source, first_line).tokens_of()
