"""Curves as SVG, so that a figure needs no plotting library."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

WIDTH, HEIGHT, MARGIN = 640, 360, 48
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
Curve = Sequence[tuple[float, float]]


def svg(curves: Mapping[str, Curve], *, title: str, x_title: str) -> str:
    """Draw shares (0-1) over x; all curves share the range of x."""
    xs = [x for curve in curves.values() for x, _ in curve]
    low, high = min(xs), max(xs)

    def at(x: float, y: float) -> str:
        across = MARGIN + (x - low) / (high - low) * (WIDTH - 2 * MARGIN)
        return f"{across:.1f},{HEIGHT - MARGIN - y * (HEIGHT - 2 * MARGIN):.1f}"

    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif"',
        '  font-size="12">',
        f'<text x="{MARGIN}" y="24" font-size="14">{escape(title)}</text>',
        f'<text x="{WIDTH // 2}" y="{HEIGHT - 8}" text-anchor="middle">{escape(x_title)}</text>',
    ]
    for share in (0, 0.05, 0.25, 0.5, 0.75, 1):
        lines.append(f'<polyline points="{at(low, share)} {at(high, share)}" stroke="#ddd" fill="none"/>')
        lines.append(f'<text x="8" y="{at(low, share).split(",")[1]}">{share:.0%}</text>')
    for number, (name, curve) in enumerate(curves.items()):
        colour = COLOURS[number % len(COLOURS)]
        points = " ".join(at(x, y) for x, y in curve)
        lines.append(f'<polyline points="{points}" stroke="{colour}" stroke-width="2" fill="none"/>')
        lines.append(f'<text x="{WIDTH - 200}" y="{MARGIN + 16 * number}" fill="{colour}">{escape(name)}</text>')
    lines += [f'<text x="{at(x, 0).split(",")[0]}" y="{HEIGHT - 30}">{x:g}</text>' for x in (low, high)]
    return "\n".join([*lines, "</svg>", ""])
