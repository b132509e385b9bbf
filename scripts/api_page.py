"""Writes docs/reference/api.md out of `pytest_mooncake.api`; a test compares.

.venv/bin/python -m scripts.api_page > docs/reference/api.md
"""

from __future__ import annotations

import ast
import enum
import inspect
import re
import sys
import textwrap
from collections.abc import Iterator
from typing import Any

from pytest_mooncake import api
from pytest_mooncake.plugin import fixtures

__all__ = ["page"]

INTRODUCTION = """\
# The public face

`pytest_mooncake.api` is the only module that a suite, a notebook or another tool imports; the suite that
`pytest-mooncake init` writes imports nothing else. Importing it is cheap: what a name needs is loaded when that name is
first used. This page is made from the module: `.venv/bin/python -m scripts.api_page > docs/reference/api.md`.

```python
from pytest_mooncake.api import Verdict, judge, read_run, report

run = read_run("mooncake-report/latest")
print(run.judgement.verdict, run.warm.summary.ttft_ms.p90)
report(run, "for-the-release-manager", lang="zh")

assert judge("vendor.yaml", targets="default").verdict is not Verdict.INVALID
```

## What is promised

Versions follow [semantic versioning](https://semver.org/). These may be built upon: the names on this page with their
signatures, fields and properties; the fixtures below; the [options](options.md) and their ini twins; the
[exit codes](exit-codes.md); the hooks of [Reports](../guide/reports.md); the [files](files.md) that a run leaves.

- None of them is removed, renamed or given another meaning but in a new major version (before 1.0: a new minor one),
  and not before one release has warned of it.
- A new minor version may add names, optional arguments, fields, and words; never a fifth verdict.
- **Files.** Records (`pytest-mooncake/journal/…`), `report.json` (`pytest-mooncake/report/…`) and histories (the
  database, and its export `pytest-mooncake/history/…`): what one version wrote, every later one reads, and a run comes
  to the verdict that it had unless the changelog says why not. Recorded runs of every schema are among the tests.
  Under one schema, fields are only added to `report.json`.
- Not promised: every other module; the keys of `details` but `attribution`; sentences for people (`reason`, `detail`,
  `expected`, `observed`, `words`); figures beyond the digits that reports print.

## Fixtures

One run a session, measured at first use by whichever test asks first. Short names are aliases: where a project has a
fixture `run` or `stack` of its own, that one counts in its tests, and nothing of the run rests on it. To put something
in front of the stack, shadow `mooncake_stack`.
"""


def page() -> str:
    """Return the page."""
    public = {name: getattr(api, name) for name in api.__all__}
    kinds = {name: _kind(value) for name, value in public.items()}
    parts = [INTRODUCTION, *_fixtures()]
    for title, kind in (("Functions", "function"), ("Values", "value"), ("Words", "word"), ("Errors", "error")):
        parts.append(f"\n## {title}\n")
        if kind == "error":
            parts += [f"- `{name}`: {_first(public[name])}" for name in public if kinds[name] == kind]
            continue
        for name in (name for name in public if kinds[name] == kind):
            parts += _function(name, public[name]) if kind == "function" else _type(name, public[name])
    return "\n".join(parts).replace("\n\n\n", "\n\n").rstrip() + "\n"


def _kind(value: Any) -> str:
    if inspect.isfunction(value):
        return "function"
    if isinstance(value, str):
        return "constant"
    if issubclass(value, Exception):
        return "error"
    return "word" if issubclass(value, enum.Enum) else "value"


def _fixtures() -> Iterator[str]:
    docs = {name: inspect.getdoc(getattr(fixtures, name)) or "" for name in fixtures.__all__}
    short = {found[1]: name for name, doc in docs.items() if (found := re.match(r"Short for `(\w+)`", doc))}
    yield "| fixture | short | gives |\n|---|---|---|"
    for name, doc in docs.items():
        if name in short.values():
            continue
        alias = f"`{short[name]}`" if name in short else ""
        yield f"| `{name}` | {alias} | {' '.join(doc.split())} |"


def _function(name: str, function: Any) -> Iterator[str]:
    tree = _parsed(function)
    yield f"### `{name}`\n\n```python\n{_signature(tree)}\n```\n"
    yield _text(ast.get_docstring(tree) or "") + "\n"


def _signature(tree: Any) -> str:
    arguments = ast.unparse(tree.args)
    return f"{tree.name}({arguments}) -> {ast.unparse(tree.returns)}"


def _type(name: str, kind: Any) -> Iterator[str]:
    tree = _parsed(kind)
    yield f"### `{name}`\n\n{_text(ast.get_docstring(tree) or '')}\n"
    members = [*_members(tree)]
    if members:
        yield "\n".join(members) + "\n"


def _members(tree: Any) -> Iterator[str]:
    """Fields and words with what stands below them, then properties and methods."""
    following = {id(one): other for one, other in zip(tree.body, tree.body[1:], strict=False)}
    for node in tree.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.target.id[0] != "_":
            text = f"`{node.target.id}: {ast.unparse(node.annotation)}`"
        elif isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant):
            text = f"`{ast.unparse(node.targets[0])}` = `{node.value.value!s}`"
        elif isinstance(node, ast.FunctionDef) and _is_public(node):
            yield f"- `{_shown(node)}`: {_summary(ast.get_docstring(node) or '')}"
            continue
        else:
            continue
        said = _said(following.get(id(node)))
        yield f"- {text}: {said}" if said else f"- {text}"


def _is_public(node: ast.FunctionDef) -> bool:
    decorators = {ast.unparse(one) for one in node.decorator_list}
    return node.name[0] != "_" and not any("serializer" in one or "validator" in one for one in decorators)


def _shown(node: ast.FunctionDef) -> str:
    returns = ast.unparse(node.returns) if node.returns else "None"
    if any("property" in ast.unparse(one) for one in node.decorator_list):
        return f"{node.name}: {returns}"
    return f"{node.name}({', '.join(one.arg for one in node.args.args[1:])}) -> {returns}"


def _said(node: ast.stmt | None) -> str:
    """The sentence that stands below a field."""
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
        return " ".join(node.value.value.split())
    return ""


def _first(value: Any) -> str:
    return _summary(inspect.getdoc(value) or "")


def _summary(doc: str) -> str:
    return " ".join(inspect.cleandoc(doc).partition("\n\n")[0].split())


def _text(doc: str) -> str:
    """A docstring as Markdown: its sections as lists."""
    parts = re.split(r"^(Args|Returns|Raises):\n", inspect.cleandoc(doc), flags=re.MULTILINE)
    lines = [parts[0].strip()]
    for title, body in zip(parts[1::2], parts[2::2], strict=True):
        lines.append(f"\n{title}:\n\n{_section(textwrap.dedent(body))}")
    return "\n".join(lines)


def _section(body: str) -> str:
    entries = [" ".join(entry.split()) for entry in re.split(r"\n(?=\S)", body.strip())]
    return "\n".join("- " + re.sub(r"^(\w+): ", r"`\1`: ", entry) for entry in entries)


def _parsed(value: Any) -> Any:
    return ast.parse(textwrap.dedent(inspect.getsource(value))).body[0]


if __name__ == "__main__":
    sys.stdout.write(page())
