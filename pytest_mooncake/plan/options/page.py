"""The page of options, made from their declarations; a test holds the page in the repository to it.

`python -m pytest_mooncake.plan.options.page > docs/reference/options.md`
"""

from __future__ import annotations

import re

from pytest_mooncake.plan.options.declared import DECLARED, Declared, Value

_HEAD = """# Options

Each is also an ini value: `--mooncake-prompt-tokens` is `mooncake_prompt_tokens`; a switch is `true` or `false` there,
what can be repeated has a line each. A value that makes no sense ends with exit code 4 and one line. The last column is
where `plan.json` keeps it.

| option | meaning | in the plan |
|---|---|---|
"""


def page() -> str:
    """The whole page, in Markdown."""
    return _HEAD + "".join(_row(option) for option in DECLARED)


def _row(option: Declared) -> str:
    usage = f"{option.flag} {_alternatives(option.metavar)}".rstrip()
    repeated = ", repeatable" if option.value is Value.REPEATED else ""
    meaning = _in_markdown(option.help.replace("%%", "%").replace("<", "&lt;"))
    more = f". {_in_markdown(option.more)}" if option.more else ""
    sets = ", ".join(f"`{name}`" for name in option.sets) or "–"
    return f"| `{usage}`{repeated} | {meaning}{more} | {sets} |\n"


def _alternatives(metavar: str) -> str:
    """`NAME, PATH or trace:PATH` for `NAME|PATH|trace:PATH`, as a bar would end the cell."""
    *others, last = metavar.split("|")
    return f"{', '.join(others)} or {last}" if others else last


def _in_markdown(text: str) -> str:
    return re.sub(r"(?<!`)--mooncake-[a-z-]+", r"`\g<0>`", text)


if __name__ == "__main__":
    print(page(), end="")
