"""Ways in which a server may write what it was sent: all of them for tests of what becomes of a secret."""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Callable
from urllib.parse import quote

__all__ = ["SPELLINGS", "traces_of"]


def _wrapped(text: str, width: int) -> str:
    return "\n".join(text[at : at + width] for at in range(0, len(text), width))


SPELLINGS: dict[str, Callable[[str], str]] = {
    "plain": lambda s: s,
    "as JSON": lambda s: json.dumps(s).replace("/", "\\/"),
    "as JSON in JSON": lambda s: json.dumps(json.dumps(s).replace("/", "\\/")),
    "in escapes of JSON": lambda s: "".join(f"\\u{ord(c):04x}" for c in s),
    "as a repr": lambda s: repr({"Authorization": f"Bearer {s}"}),
    "in escapes of Python": lambda s: "".join(f"\\x{ord(c):02x}" for c in s),
    "in octal escapes": lambda s: "".join(f"\\{ord(c):03o}" for c in s),
    "in a URL": lambda s: quote(s, safe=""),
    "in a URL, all of it": lambda s: "".join(f"%{ord(c):02x}" for c in s),
    "in a URL in a URL": lambda s: quote(quote(s, safe=""), safe=""),
    "in HTML": html.escape,
    "in HTML by numbers": lambda s: "".join(f"&#{ord(c)};" for c in s),
    "in HTML by hexadecimal numbers": lambda s: "".join(f"&#x{ord(c):x};" for c in s),
    "base64": lambda s: base64.b64encode(s.encode()).decode(),
    "base64 with what stands before": lambda s: base64.b64encode(f"Bearer {s}".encode()).decode(),
    "base64 with another offset": lambda s: base64.b64encode(f"x{s}".encode()).decode(),
    "base64 for URLs, unpadded": lambda s: base64.urlsafe_b64encode(f"user:{s}".encode()).decode().rstrip("="),
    "base64 over several lines": lambda s: _wrapped(base64.b64encode(s.encode()).decode(), 7),
    "base64 in a URL": lambda s: quote(base64.b64encode(s.encode()), safe=""),
    "base32": lambda s: base64.b32encode(s.encode()).decode(),
    "hexadecimal": lambda s: s.encode().hex(),
    "hexadecimal with colons": lambda s: s.encode().hex(":").upper(),
    "bytes": lambda s: str(list(s.encode())),
    "in upper case": str.upper,
    "over several lines": lambda s: _wrapped(s, 6),
    "with quotes in between": lambda s: '" "'.join(s[at : at + 5] for at in range(0, len(s), 5)),
    "in colours": lambda s: "\x1b[31m".join(s[at : at + 4] for at in range(0, len(s), 4)),
    "with tags in between": lambda s: "<wbr>".join(s[at : at + 4] for at in range(0, len(s), 4)),
    "letter by letter": " ".join,
    "its beginning": lambda s: f"{s[:10]}...",
    "its end": lambda s: f"...{s[-9:]}",
    "masked": lambda s: f"{s[:6]}********{s[-4:]}",
}


def traces_of(secret: str) -> tuple[str, ...]:
    """What no output may hold: eight characters of the secret in a row, and every spelling of it as a whole."""
    pieces = [secret[at : at + 8] for at in range(len(secret) - 7)]
    whole = [spell(secret) for spell in SPELLINGS.values()]
    ends = [secret[:6], secret[-6:]]
    # what of base64 the secret alone decides, without what stands before and after
    inner = [base64.b64encode(b"x" * n + secret.encode()).decode()[4:-4] for n in range(3)]
    return tuple({*pieces, *whole, *ends, *inner})
