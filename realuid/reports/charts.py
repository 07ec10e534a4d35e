"""Line charts as inline SVG: no dependency, sharp at any size, coloured by the page's style sheet.

A chart is a <figure> that holds a caption, an <svg> and a legend. The classes s0 to s5 (one colour each), `grid`,
`axis`, `line`, `band`, `dot`, `reference` and `second` (curves beyond the sixth, whose colour was taken) are left to
the page. `standalone` makes a file of a chart, with a style of its own.
"""

import math
import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape, unescape

__all__ = ["Series", "line_chart", "short", "standalone"]

WIDTH, HEIGHT = 420, 236  # viewBox units; text of 11 units stays readable when a phone shows the chart 340 pixels wide
LEFT, RIGHT, TOP, BOTTOM = 46, 14, 8, 40
COLOURS = 6
BINS = 160  # more points than this are averaged, or the page would grow with the length of the run
DOTS = 40  # up to this many points each is also marked


@dataclass(frozen=True)
class Series:
    """A named curve: finite points (x, y), x increasing; and, if given, lowest and highest values to draw behind it,
    one pair a point."""

    name: str
    points: Sequence[tuple[float, float]]
    spread: Sequence[tuple[float, float]] | None = None


@dataclass(frozen=True)
class _Axis:
    """Maps values onto [start, stop] of the viewBox, linearly or by their logarithm."""

    low: float
    high: float
    start: float
    stop: float
    logarithmic: bool = False

    def __call__(self, value: float) -> float:
        low, high, at = (math.log(v) if self.logarithmic else v for v in (self.low, self.high, value))
        return self.start + (at - low) / (high - low) * (self.stop - self.start)

    def ticks(self) -> list[float]:
        """Round numbers inside the axis: about five, or the powers of ten (with 2 and 5 where there are few)."""
        if self.logarithmic:
            first, last = math.floor(math.log10(self.low)), math.ceil(math.log10(self.high))
            every = max(1, (last - first) // 6)
            digits = (1, 2, 5) if last - first <= 3 else (1,)
            marks = [digit * 10.0**power for power in range(first, last + 1, every) for digit in digits]
        else:
            step = _round_step((self.high - self.low) / 5)
            marks = [step * k for k in range(math.ceil(self.low / step), math.floor(self.high / step) + 1)]
        return [mark for mark in marks if self.low <= mark <= self.high]


def _round_step(rough: float) -> float:
    """The smallest of 1, 2, 5 times a power of ten that is not below `rough`."""
    power = 10.0 ** math.floor(math.log10(rough))
    return next(digit * power for digit in (1, 2, 5, 10) if digit * power >= rough * (1 - 1e-9))


def short(value: float) -> str:
    """Three or four significant digits with k, M or G for thousands: 0.0123, 1.5, 204, 12.5k, 3M, 1.2e-5."""
    size = abs(value)
    if size != 0 and (size < 1e-3 or size >= 1e12):
        return f"{value:.3g}".replace("e-0", "e-").replace("e+", "e")
    for limit, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if size >= limit * 0.99995:
            return f"{value / limit:.4g}{letter}"
    return f"{value:.4g}"


def _thinned(points: Sequence[tuple[float, float]]) -> list[tuple[float, float, float, float]]:
    """At most BINS rows (x, mean, lowest, highest), over equally wide intervals of x."""
    if len(points) <= BINS:
        return [(x, y, y, y) for x, y in points]
    first, width = points[0][0], (points[-1][0] - points[0][0]) / BINS
    bins: dict[int, list[tuple[float, float]]] = {}
    for x, y in points:
        bins.setdefault(min(int((x - first) / width), BINS - 1), []).append((x, y))
    rows = []
    for members in bins.values():
        xs, ys = zip(*members, strict=True)
        rows.append((math.fsum(xs) / len(xs), math.fsum(ys) / len(ys), min(ys), max(ys)))
    return rows


def _drawable(one: Series) -> list[tuple[float, float, float, float]]:
    """Rows (x, y, lowest, highest)."""
    if one.spread is None:
        return _thinned(one.points)
    return [(x, y, lowest, highest) for (x, y), (lowest, highest) in zip(one.points, one.spread, strict=True)]


def _limits(values: Sequence[float], decades: float, from_zero: bool) -> tuple[float, float, bool]:
    """Ends of a y axis around `values`, and whether it is logarithmic."""
    low, high = min(values), max(values)
    if low > 0 and high / low > 10**decades and not from_zero:
        low = max(low, high * 1e-12)  # one vanishing value shall not take the whole picture
        margin = (high / low) ** 0.04
        return low / margin, high * margin, True
    if low >= 0 and high > 0 and (from_zero or low < 0.4 * high):
        return 0.0, high * 1.05, False
    margin = 0.06 * (high - low) or 0.1 * abs(high) or 1.0
    return low - margin, high + margin, False


def line_chart(
    title: str,
    series: Sequence[Series],
    *,
    references: Sequence[tuple[str, float]] = (),
    decades: float = 2,
    from_zero: bool = False,
    x_label: str = "images the generator was trained on",
) -> str:
    """A well-formed <figure> with one curve for each series that has points; an empty string if none has any.

    Long curves are drawn as the mean over equal intervals, on a band from the lowest to the highest value.

    Args:
        references: named levels, drawn as dashed lines.
        decades: the y axis is logarithmic where all values are positive and span more than this many.
        from_zero: let the y axis begin at zero where no value is negative, instead of a logarithmic axis.
        x_label: what the x axis counts.
    """
    curves = [(one.name, one.points, _drawable(one)) for one in series if one.points]
    if not curves:
        return ""
    # By the means: a lone spike then leaves the picture and not everything else a flat line.
    values = [mean for _, _, rows in curves for _, mean, _, _ in rows] + [level for _, level in references]
    low, high, logarithmic = _limits(values, decades, from_zero)
    xs = [x for _, points, _ in curves for x, _ in points]
    left, right = min(xs), max(xs)
    if left < 0.2 * right:
        left = min(left, 0.0)
    if left == right:
        left, right = left - 1, right + 1
    right += 0.01 * (right - left)  # room for the last dot
    across = _Axis(left, right, LEFT, WIDTH - RIGHT)
    up = _Axis(low, high, HEIGHT - BOTTOM, TOP, logarithmic)

    drawn = [*_scales(across, up, x_label)]
    # A nested <svg> cuts what leaves the plot; its own viewBox keeps the coordinates.
    plot = f"{LEFT} {TOP} {WIDTH - LEFT - RIGHT} {HEIGHT - TOP - BOTTOM}"
    x, top, width, height = plot.split()
    drawn.append(f'<svg x="{x}" y="{top}" width="{width}" height="{height}" viewBox="{plot}">')
    legend = []
    for number, (name, points, rows) in enumerate(curves):
        colour = f"s{number % COLOURS}" + (" second" if number >= COLOURS else "")
        drawn += _curve(colour, rows, across, up)
        legend.append(f'<li class="{colour}"><i></i>{escape(name)} <b>{short(points[-1][1])}</b></li>')
    for number, (name, level) in enumerate(references, start=len(curves)):
        colour, y = f"s{number % COLOURS}", f"{up(level):.1f}"
        drawn.append(f'<line class="reference {colour}" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y}" y2="{y}"/>')
        legend.append(f'<li class="{colour} dashed"><i></i>{escape(name)} <b>{short(level)}</b></li>')
    drawn.append("</svg>")
    note = ' <span class="note">logarithmic</span>' if logarithmic else ""
    return (
        f'<figure class="chart"><figcaption>{escape(title)}{note}</figcaption>'
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">{"".join(drawn)}</svg>'
        f'<ul class="legend">{"".join(legend)}</ul></figure>'
    )


def _scales(across: _Axis, up: _Axis, x_label: str) -> list[str]:
    """Grid lines, the numbers at both axes, and the name of the x axis."""
    drawn = []
    for value in up.ticks():
        y = up(value)
        drawn.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        drawn.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{short(value)}</text>')
    floor = HEIGHT - BOTTOM
    drawn.append(f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{floor}" y2="{floor}"/>')
    for value in across.ticks():
        x = across(value)
        drawn.append(f'<line class="axis" x1="{x:.1f}" x2="{x:.1f}" y1="{floor}" y2="{floor + 4}"/>')
        drawn.append(f'<text x="{x:.1f}" y="{floor + 16}" text-anchor="middle">{short(value)}</text>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    drawn.append(f'<text x="{middle}" y="{HEIGHT - 6}" text-anchor="middle">{escape(x_label)}</text>')
    return drawn


def _curve(colour: str, rows: list[tuple[float, float, float, float]], across: _Axis, up: _Axis) -> list[str]:
    """The band, the line and, on short curves, the points."""
    drawn = []
    floor = up.low

    def path(ends: list[tuple[float, float]]) -> str:
        # A band may reach below a logarithmic axis, down to values that have no logarithm.
        return " ".join(f"{across(x):.1f},{up(max(y, floor) if up.logarithmic else y):.1f}" for x, y in ends)

    if any(lowest < highest for _, _, lowest, highest in rows):
        outline = [(x, highest) for x, _, _, highest in rows] + [(x, lowest) for x, _, lowest, _ in reversed(rows)]
        drawn.append(f'<polygon class="band {colour}" points="{path(outline)}"/>')
    drawn.append(f'<polyline class="line {colour}" points="{path([(x, mean) for x, mean, _, _ in rows])}"/>')
    if len(rows) <= DOTS:
        for x, mean, _, _ in rows:
            drawn.append(
                f'<circle class="dot {colour}" cx="{across(x):.1f}" cy="{up(mean):.1f}" r="2.6">'
                f"<title>{short(mean)} at {short(x)}</title></circle>"
            )
    return drawn


LINE = 16  # height of a line of a legend in a file
LETTERS = 50  # in a line of it


def standalone(chart: str, style: str | None = None) -> str:
    """A chart of `line_chart` as an SVG file: caption, picture and legend, light colours.

    Args:
        chart: what `line_chart` gave.
        style: rules for the classes; None for those of the package's reports, in light.
    """
    if not chart:
        return f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {LINE}"/>\n'
    caption = re.sub(r"<[^>]+>", "", _between(chart, "<figcaption>", "</figcaption>"))
    names = re.findall(r'<li class="([^"]*)"><i></i>(.*?)</li>', chart)
    body = _between(chart, "<svg ", '</svg><ul class="legend">').partition(">")[2]
    drawn = [f'<text class="title" x="4" y="13">{caption}</text>', f'<g transform="translate(0 {LINE + 4})">{body}</g>']
    y = HEIGHT + LINE + 4 + 12
    for colours, name in names:
        kind = "reference" if "dashed" in colours else "line"
        colours = colours.replace("dashed", "").strip()
        drawn.append(f'<line class="{kind} {colours}" x1="{LEFT}" x2="{LEFT + 18}" y1="{y - 4}" y2="{y - 4}"/>')
        for line in textwrap.wrap(unescape(re.sub(r"<[^>]+>", "", name)), LETTERS):
            drawn.append(f'<text x="{LEFT + 24}" y="{y}">{escape(line)}</text>')
            y += LINE
    height = y - 4
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{1.6 * WIDTH:.0f}">'
        f"<style>{style or STYLE}</style>"
        f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>{"".join(drawn)}</svg>\n'
    )


def _between(text: str, start: str, end: str) -> str:
    return text.partition(start)[2].partition(end)[0]


STYLE = (
    "text{fill:#444;font:11px system-ui,sans-serif}.title{font-weight:600;fill:#000}"
    ".grid{stroke:#d9dee5;stroke-width:.75}.axis{stroke:#5b6675;stroke-width:.75}"
    ".s0{--c:#0067a5}.s1{--c:#c8501e}.s2{--c:#1b8a5a}.s3{--c:#8a4fa3}.s4{--c:#a37b00}.s5{--c:#5b6675}"
    ".line{fill:none;stroke:var(--c);stroke-width:1.6;stroke-linejoin:round}.second.line{stroke-dasharray:2 2}"
    ".band{fill:var(--c);opacity:.2}.dot{fill:var(--c)}"
    ".reference{stroke:var(--c);stroke-width:1.2;stroke-dasharray:5 4}"
)
