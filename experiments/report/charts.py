"""Small SVG pictures: curves, shares as one bar, a reliability diagram, points. Colours are classes of page.css.

    line_chart("loss", {"train": ([10, 20], [2.5, 1.5])}, "step")

Numbers are shown when the pointer rests on them (SVG's <title>).
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from .markup import Markup, element, joined

WIDTH, HEIGHT = 380, 210
LEFT, RIGHT, TOP, BOTTOM = 46, 12, 18, 30
MOST_POINTS = 400
COLOURS = 8

Series = tuple[Sequence[float], Sequence[float]]


def line_chart(
    title: str,
    series: Mapping[str, Series],
    x_label: str,
    limits: tuple[float, float] | None = None,
    marked: tuple[float, str] | None = None,
    logarithmic: bool = False,
) -> Markup | None:
    """
    Args:
        series: name -> x, y; what is not finite is left out.
        limits: of y, at least; default: of the data.
        marked: an x with a vertical line, and what it is.
        logarithmic: equal factors of y are equally high; all must be positive.
    """
    known = {name: thinned([(x, y) for x, y in zip(*points, strict=True) if math.isfinite(y)])
             for name, points in series.items()}  # fmt: skip
    known = {name: points for name, points in known.items() if points}
    if not known:
        return None
    xs = [x for points in known.values() for x, _ in points] + ([marked[0]] if marked else [])
    ys = [y for points in known.values() for _, y in points]
    low, high = (min(*ys, *(limits or ys)), max(*ys, *(limits or ys)))
    plot = Plot((min(xs), max(xs)), (low, high), logarithmic)
    drawn = [plot.axes(x_label)]
    if marked:
        x = plot.x(marked[0])
        drawn.append(element("line", x1=x, x2=x, y1=TOP, y2=HEIGHT - BOTTOM, class_="mark"))
        drawn.append(element("text", marked[1], x=x, y=TOP - 5, class_="tick", text_anchor="middle"))
    for number, (name, points) in enumerate(known.items()):
        colour = f"c{number % COLOURS}"
        places = [(plot.x(x), plot.y(y)) for x, y in points]
        drawn.append(element("path", d="M" + "L".join(f"{x} {y}" for x, y in places), class_=f"line {colour}"))
        if len(points) <= 60:
            drawn += [
                element("g", element("title", f"{name}, {x_label} {at:g}: {figure(value)}"),
                        element("circle", cx=x, cy=y, r=2.2, class_=f"dot {colour}"),
                        element("circle", cx=x, cy=y, r=9, class_="touch"))
                for (x, y), (at, value) in zip(places, points, strict=True)
            ]  # fmt: skip
    last = "; ".join(f"{name} ends at {figure(points[-1][1])}" for name, points in known.items())
    return figure_of(title, drawn, f"{title} by {x_label}: {last}", legend(known))


def figure_of(title: str | None, drawn: Sequence[Any], label: str, below: Any = None) -> Markup:
    picture = element("svg", *drawn, viewBox=f"0 0 {WIDTH} {HEIGHT}", role="img", aria_label=label)
    caption = element("figcaption", title) if title else None
    return element("figure", caption, picture, below, class_="chart")


def legend(series: Mapping[str, Sequence[tuple[float, float]]]) -> Markup:
    return element("ul", [
        element("li", element("span", class_=f"key c{number % COLOURS}"), name, " ",
                element("b", figure(points[-1][1])))
        for number, (name, points) in enumerate(series.items())
    ], class_="legend")  # fmt: skip


class Plot:
    """Places of numbers in a picture."""

    def __init__(self, xs: tuple[float, float], ys: tuple[float, float], logarithmic: bool = False):
        self.ticks_x, self.ticks_y = ticks(*xs), decades(*ys) if logarithmic else ticks(*ys)
        self.scale: Callable[[float], float] = math.log10 if logarithmic else float
        self.xs = (xs[0], xs[1] if xs[1] > xs[0] else xs[0] + 1)
        self.ys = (min(ys[0], self.ticks_y[0]), max(ys[1], self.ticks_y[-1]))

    def x(self, value: float) -> float:
        low, high = self.xs
        return round(LEFT + (value - low) / (high - low) * (WIDTH - LEFT - RIGHT), 1)

    def y(self, value: float) -> float:
        low, high, value = (self.scale(number) for number in (*self.ys, value))
        return round(HEIGHT - BOTTOM - (value - low) / (high - low) * (HEIGHT - TOP - BOTTOM), 1)

    def axes(self, x_label: str) -> Markup:
        parts = []
        for value in self.ticks_y:
            y = self.y(value)
            parts.append(element("line", x1=LEFT, x2=WIDTH - RIGHT, y1=y, y2=y, class_="grid"))
            parts.append(element("text", figure(value), x=LEFT - 6, y=y + 3.5, class_="tick", text_anchor="end"))
        for value in self.ticks_x:
            if self.xs[0] <= value <= self.xs[1]:
                parts.append(element("text", f"{value:,g}", x=self.x(value), y=HEIGHT - BOTTOM + 14, class_="tick",
                                     text_anchor="middle"))  # fmt: skip
        parts.append(element("text", x_label, x=WIDTH - RIGHT, y=HEIGHT - 3, class_="tick", text_anchor="end"))
        return joined(parts)


def ticks(low: float, high: float, about: int = 4) -> list[float]:
    """Round numbers, the first at or below `low`, the last at or above `high`."""
    if high <= low:
        low, high = low - (abs(low) / 2 or 0.5), high + (abs(high) / 2 or 0.5)
    rough = (high - low) / about
    base = 10 ** math.floor(math.log10(rough))
    step = next(base * factor for factor in (1, 2, 2.5, 5, 10) if base * factor >= rough * 0.999)
    return [step * n for n in range(math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9) + 1)]


def decades(low: float, high: float) -> list[float]:
    """1, 2 and 5 of each power of ten, or the powers alone where these are many; ends as those of `ticks`."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    digits = (1, 2, 5) if len(powers) <= 4 else (1,)
    values = [float(f"{digit}e{power}") for power in powers for digit in digits]
    first = max(place for place, value in enumerate(values) if value <= low)
    last = min(place for place, value in enumerate(values) if value >= high)
    return values[first : max(last, first + 1) + 1]


def thinned(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Every so many, and the last one."""
    every = -(-len(points) // MOST_POINTS)
    return points if every <= 1 else [*points[:-1:every], points[-1]]


def figure(value: float) -> str:
    """Four digits at most."""
    if value == 0 or 0.001 <= abs(value) < 10_000:
        return f"{value:.4g}"
    return f"{value:.2g}".replace("e-0", "e-").replace("e+0", "e")


def share_bar(shares: Mapping[str, float], label: str) -> Markup:
    """Parts of a whole, side by side, largest first; shares of 0 to 1."""
    known = sorted(((share, name) for name, share in shares.items() if share > 0.0005), reverse=True)
    drawn, begin = [], 0.0
    for number, (share, name) in enumerate(known):
        drawn.append(element("g", element("title", f"{name}: {share:.1%}"),
                             element("rect", x=round(begin, 2), y=0, width=round(100 * share, 2), height=10,
                                     class_=f"fill c{number % COLOURS}")))  # fmt: skip
        begin += 100 * share
    text = ", ".join(f"{name} {share:.0%}" for share, name in known)
    keys = element("ul", [element("li", element("span", class_=f"key c{number % COLOURS}"), name, " ",
                                  element("b", f"{share:.1%}")) for number, (share, name) in enumerate(known)],
                   class_="legend")  # fmt: skip
    bar = element("svg", *drawn, viewBox="0 0 100 10", preserveAspectRatio="none", class_="shares", role="img",
                  aria_label=f"{label}: {text}")  # fmt: skip
    return joined(bar, keys)


def reliability(calibration: Mapping[str, Any]) -> Markup:
    """Accuracy of each bin of confidences beside the diagonal, where both are equal; below how many are in a bin."""
    plot = Plot((0.0, 1.0), (0.0, 1.0))
    bins = [row for row in calibration["bins"] if row["count"]]
    most = max((row["count"] for row in bins), default=1)
    drawn = [plot.axes("confidence")]
    for row in bins:
        left, right = plot.x(row["low"]), plot.x(row["high"])
        accuracy, confidence = plot.y(row["accuracy"]), plot.y(row["confidence"])
        said = (f"confidence {row['low']:.2f} to {row['high']:.2f}: {row['count']:,} decisions, "
                f"mean confidence {row['confidence']:.3f}, accuracy {row['accuracy']:.3f}")  # fmt: skip
        size = round(22 * row["count"] / most, 1)
        drawn.append(element(
            "g", element("title", said),
            element("rect", x=left + 0.7, width=round(right - left - 1.4, 1), y=accuracy,
                    height=round(plot.y(0) - accuracy, 1), class_="fill c0 pale"),
            element("line", x1=left + 0.7, x2=right - 0.7, y1=confidence, y2=confidence, class_="claim"),
            element("rect", x=left + 0.7, width=round(right - left - 1.4, 1), y=round(plot.y(0) - size, 1), height=size,
                    class_="count"),
        ))  # fmt: skip
    drawn.append(element("line", x1=plot.x(0), y1=plot.y(0), x2=plot.x(1), y2=plot.y(1), class_="diagonal"))
    keys = element("ul", element("li", element("span", class_="key c0 pale"), "accuracy"),
                   element("li", element("span", class_="key claim"), "mean confidence"),
                   element("li", element("span", class_="key count"), "how many"), class_="legend")  # fmt: skip
    return figure_of(None, drawn, f"reliability diagram; expected calibration error {calibration['ece']:.4f}", keys)


def points_chart(title: str, pairs: Sequence[tuple[float, float]], x_label: str, y_label: str) -> Markup | None:
    """Of many points every so many."""
    known = thinned([pair for pair in pairs if all(map(math.isfinite, pair))])
    if not known:
        return None
    low, high = min(map(min, known)), max(map(max, known))
    plot = Plot((low, high), (low, high))
    drawn = [plot.axes(x_label),
             element("line", x1=plot.x(low), y1=plot.y(low), x2=plot.x(high), y2=plot.y(high), class_="diagonal")]
    drawn += [element("circle", cx=plot.x(x), cy=plot.y(y), r=2, class_="dot c0 pale") for x, y in known]
    drawn.append(element("text", y_label, x=LEFT + 4, y=TOP - 5, class_="tick"))
    return figure_of(title, drawn, f"{title}: {len(known)} points")
