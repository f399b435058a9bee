"""Bars as SVG, written by hand: one group for each question, one bar for each program, readable in light and dark."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

_WIDTH, _LABELS, _BAR, _GAP = 760, 170, 16, 6
_ROOM = _WIDTH - _LABELS - 90  # for the longest bar; behind it stands the number

_STYLE = """\
text { font: 12px system-ui, sans-serif; fill: #24292f }
.title { font-size: 15px; font-weight: 600 }
.group { font-weight: 600 }
.note { fill: #57606a }
.bar { fill: #9aa4af }
.ours { fill: #2f7d4f }
.bound { fill: none; stroke: #57606a; stroke-dasharray: 3 2 }
@media (prefers-color-scheme: dark) {
text { fill: #d0d7de }
.note { fill: #9aa4af }
.bar { fill: #57606a }
.ours { fill: #4cb178 }
.bound { stroke: #9aa4af }
}
"""


@dataclass(frozen=True)
class Chart:
    """Numbers to draw: `series` has for each program one number per group, or None where it has none.

    Every group has a scale of its own. `ours` is drawn in colour, what is in `bounds` as an outline.
    """

    title: str
    unit: str
    groups: Sequence[str]
    series: Mapping[str, Sequence[float | None]]
    lower_is_better: bool = False
    ours: str = "masqmail"
    bounds: Sequence[str] = ()


def svg(charts: Sequence[Chart]) -> str:
    """One picture with the charts below each other."""
    body, top = [], 0
    for chart in charts:
        lines, top = _drawn(chart, top)
        body += lines
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{top + 10}" '
        f'viewBox="0 0 {_WIDTH} {top + 10}" role="img">'
    )
    titles = "; ".join(chart.title for chart in charts)
    return "\n".join([head, f"<title>{escape(titles)}</title>", f"<style>\n{_STYLE}</style>", *body, "</svg>", ""])


def _drawn(chart: Chart, top: int) -> tuple[list[str], int]:
    """The elements of one chart that begins at this height, and where it ends."""
    better = "less is better" if chart.lower_is_better else "more is better"
    lines = [
        _text(10, top + 24, chart.title, "title"),
        _text(10, top + 42, f"{chart.unit}; {better}; each group has its own scale", "note"),
    ]
    top += 60
    for index, group in enumerate(chart.groups):
        lines.append(_text(10, top + 12, group, "group"))
        top += 18
        found = [(name, number) for name, numbers in chart.series.items() if (number := numbers[index]) is not None]
        greatest = max((number for _, number in found), default=0) or 1
        for name, number in found:
            kind = "bound" if name in chart.bounds else "ours" if name == chart.ours else "bar"
            width = max(1.0, number / greatest * _ROOM)
            lines.append(_text(_LABELS - 8, top + 12, name, "", anchor="end"))
            lines.append(f'<rect class="{kind}" x="{_LABELS}" y="{top}" width="{width:.1f}" height="{_BAR}"/>')
            lines.append(_text(_LABELS + width + 6, top + 12, short(number), ""))
            top += _BAR + _GAP
        top += 10
    return lines, top


def _text(x: float, y: float, text: str, kind: str, *, anchor: str = "start") -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y}" text-anchor="{anchor}">{escape(text)}</text>'


def short(number: float) -> str:
    """A number for people: three digits that count, and no zeros behind the point that mean nothing."""
    if abs(number) >= 100:
        return f"{number:.0f}"
    return f"{number:.3g}"
