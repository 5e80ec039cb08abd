"""Horizontal bars as SVG, readable on light and dark pages."""

from collections.abc import Mapping, Sequence
from html import escape

__all__ = ["bars"]

WIDTH = 720
ROW = 26
LABEL = 190
STYLE = """
text { font: 13px system-ui, sans-serif; fill: #1c2430 } .title { font-weight: 600; font-size: 15px }
.note { fill: #5b6675; font-size: 12px } .ours { fill: #0a7d6c } .peer { fill: #a9b4c2 } .bg { fill: #ffffff }
@media (prefers-color-scheme: dark) {
 text { fill: #e6ebf2 } .note { fill: #9aa7b8 } .ours { fill: #33b6a1 } .peer { fill: #5a677a }
 .bg { fill: #12171f }
}
"""


def bars(title: str, groups: Sequence[tuple[str, Mapping[str, float], str]], unit: str) -> str:
    """Draw groups of bars, each group to its own scale.

    Args:
        title: above all.
        groups: (heading, value by name, note) each; names that begin with "co2" are ours.
        unit: behind every value.
    """
    parts: list[str] = []
    y = 44
    for heading, rows, note in groups:
        parts.append(f'<text x="16" y="{y}">{escape(heading)}</text>')
        parts.append(f'<text x="{WIDTH - 16}" y="{y}" text-anchor="end" class="note">{escape(note)}</text>')
        top = max(rows.values())
        for name, value in rows.items():
            y += ROW
            width = max(2.0, (WIDTH - LABEL - 130) * value / top)
            kind = "ours" if name.startswith("co2") else "peer"
            parts.append(f'<text x="{LABEL - 8}" y="{y}" text-anchor="end">{escape(name)}</text>')
            parts.append(f'<rect x="{LABEL}" y="{y - 13}" width="{width:.1f}" height="17" rx="3" class="{kind}"/>')
            parts.append(f'<text x="{LABEL + width + 8:.1f}" y="{y}">{value:,.0f} {escape(unit)}</text>')
        y += ROW + 14
    height = y - 10
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" '
        f'aria-label="{escape(title)}"><style>{STYLE}</style>'
        f'<rect class="bg" width="{WIDTH}" height="{height}" rx="8"/>'
        f'<text x="16" y="22" class="title">{escape(title)}</text>{"".join(parts)}</svg>\n'
    )
