"""Cost against quality of several runs, as inline SVG: the plot that says which network to take.

One filled mark a group of runs (mean over seeds, bars of one standard deviation), an open one above it for
the same network with self-ensemble. The stepped line is the Pareto front: the best PSNR that a budget buys.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator

from .compare import Comparison, Group, Spread
from .config import BASELINES
from .report_axes import BLUE, INK, ORANGE, styled, svg_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes

AXES = {
    "macs_per_mp": ("GMAC per raw megapixel", 1e9),
    "parameters": ("thousand parameters", 1e3),
    "latency_ms": ("latency in ms", 1.0),
}
"""Cost -> label of the axis, divisor."""

_LOG_ABOVE = 6.0  # ratio of the largest to the smallest cost
_LOOKS = {True: (BLUE, "o"), False: (ORANGE, "s")}
"""Whether searched -> colour and mark."""
_MARK = 6
_DIRECTIONS = [math.radians(degrees) for degrees in (-30, 150, -150, 30, 0, 180, -90, 90)]
_DISTANCES = (9, 15, 24, 36, 50, 70)  # from mark to label, in points

Box = tuple[float, float, float, float]
"""Left, bottom, right, top in pixels of the drawing."""


def draw_pareto(comparison: Comparison, cost: str, width: float = 10.6, height: float = 4.6) -> str:
    """SVG with `cost` along the bottom; "" where fewer than two groups have both a cost and a PSNR."""
    title, unit = AXES[cost]
    groups = [g for g in comparison.groups if getattr(g, cost) and g.psnr_db]
    if len(groups) < 2:
        return ""
    with styled():
        figure = Figure(figsize=(width, height), layout="constrained")
        axes = figure.subplots()
        costs = [getattr(group, cost).mean / unit for group in groups]
        _scale(axes, costs)
        for searched in (True, False):
            these = [g for g in groups if (g.type not in BASELINES) == searched]
            _marks(axes, these, cost, unit, searched)
        fronts = _fronts(axes, groups, cost, unit)
        axes.set(xlabel=title, ylabel="validation PSNR (dB)")
        if width > 6:
            axes.legend(handles=_key(groups), loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=6)
        axes.margins(y=0.12)
        _label(figure, axes, groups, costs, fronts)
        return svg_text(figure)


def _scale(axes: Axes, costs: list[float]) -> None:
    low, high = min(costs), max(costs)
    if high > _LOG_ABOVE * low:
        axes.set_xscale("log")
        axes.set_xlim(low / 1.3, high * 1.5)
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.minorticks_off()
    else:
        room = max(0.15 * (high - low), 0.1 * high)  # runs of one target would else look far apart
        axes.set_xlim(low - room, high + room)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=8))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _marks(axes: Axes, groups: list[Group], cost: str, unit: float, searched: bool) -> None:
    colour, mark = _LOOKS[searched]
    for psnr, fill in (("psnr_ensemble_db", "none"), ("psnr_db", colour)):
        drawn = [g for g in groups if getattr(g, psnr)]
        if drawn:
            axes.errorbar(
                [getattr(g, cost).mean / unit for g in drawn],
                [getattr(g, psnr).mean for g in drawn],
                xerr=[_std(getattr(g, cost)) / unit for g in drawn],
                yerr=[_std(getattr(g, psnr)) for g in drawn],
                fmt=mark,
                markersize=_MARK,
                color=colour,
                markerfacecolor=fill,
                markeredgewidth=1.3,
                elinewidth=1,
            )


def _key(groups: list[Group]) -> list[Line2D]:
    handles = []
    for searched, kind in ((True, "searched"), (False, "baseline")):
        if any((g.type not in BASELINES) == searched for g in groups):
            colour, mark = _LOOKS[searched]
            look = {"marker": mark, "color": colour, "linestyle": "", "markersize": _MARK}
            handles.append(Line2D([], [], **look, label=kind))
            handles.append(Line2D([], [], **look, markerfacecolor="none", label=f"{kind}, self-ensemble"))
    front = {"color": INK, "alpha": 0.5, "linewidth": 1}
    return [*handles, Line2D([], [], **front, label="Pareto front")]


def _std(spread: Spread) -> float:
    return spread.std or 0.0


def _fronts(axes: Axes, groups: list[Group], cost: str, unit: float) -> list[Line2D]:
    """Steps: a budget between two networks buys the cheaper one. To the right the best stays the best."""
    right = axes.get_xlim()[1]
    lines = []
    for psnr, style in (("psnr_db", "-"), ("psnr_ensemble_db", ":")):
        points = sorted(
            (getattr(g, cost).mean / unit, getattr(g, psnr).mean) for g in groups if getattr(g, psnr)
        )
        corners: list[tuple[float, float]] = []
        for x, y in points:
            if not corners:
                corners.append((x, y))
            elif y > corners[-1][1]:
                corners += [(x, corners[-1][1]), (x, y)]
        if corners:
            xs, ys = zip(*corners, (right, corners[-1][1]), strict=True)
            lines += axes.plot(xs, ys, style, color=INK, alpha=0.5, linewidth=1, zorder=1)
    return lines


def _label(figure: Figure, axes: Axes, groups: list[Group], costs: list[float], fronts: list[Line2D]) -> None:
    """Each group's name at its filled mark, where it hits no other name, mark, line or border."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    axes.set(xlim=axes.get_xlim(), ylim=axes.get_ylim())
    per_point = figure.dpi / 72
    to_pixels = axes.transData.transform
    marks = [to_pixels((x, g.psnr_db.mean)) for x, g in zip(costs, groups, strict=True) if g.psnr_db]
    taken = []
    for x, group in zip(costs, groups, strict=True):
        for psnr in filter(None, (group.psnr_db, group.psnr_ensemble_db)):
            taken += [
                _grown(to_pixels((x, psnr.mean)), _MARK * per_point),
                _bar(to_pixels, x, psnr, per_point),
            ]
    for line in fronts:
        corners = [tuple(corner) for corner in to_pixels(line.get_xydata())]
        taken += [_between(a, b, per_point) for a, b in pairwise(corners)]
    frame = axes.get_window_extent().extents
    for group, (x, y) in sorted(zip(groups, marks, strict=True), key=lambda pair: -pair[1][1]):
        name = axes.annotate(group.name, (0, 0), xycoords="figure pixels", fontsize=8.5)
        extent = name.get_window_extent(canvas.get_renderer())
        name.remove()
        size = extent.width, extent.height
        places = [
            (distance, _place(x, y, distance * per_point, angle, size))
            for distance in _DISTANCES
            for angle in _DIRECTIONS
        ]
        distance, box = min(
            places, key=lambda p: (_outside(p[1], frame) + sum(_overlap(p[1], t) for t in taken), p[0])
        )
        taken.append(box)
        axes.annotate(
            group.name,
            axes.transData.inverted().transform((x, y)),
            xytext=axes.transAxes.inverted().transform(((box[0] + box[2]) / 2, (box[1] + box[3]) / 2)),
            textcoords="axes fraction",
            ha="center",
            va="center",
            fontsize=8.5,
            arrowprops=_leader() if distance > _DISTANCES[1] else None,
        ).set_in_layout(False)


def _leader() -> dict[str, Any]:
    return {"arrowstyle": "-", "color": INK, "alpha": 0.5, "linewidth": 0.7, "shrinkA": 1, "shrinkB": 5}


def _grown(point: tuple[float, float], by: float) -> Box:
    return point[0] - by, point[1] - by, point[0] + by, point[1] + by


def _between(a: tuple[float, float], b: tuple[float, float], by: float) -> Box:
    """Around two points."""
    return min(a[0], b[0]) - by, min(a[1], b[1]) - by, max(a[0], b[0]) + by, max(a[1], b[1]) + by


def _bar(to_pixels: Any, x: float, psnr: Spread, by: float) -> Box:
    """Around the error bar of a mark."""
    bottom, top = (to_pixels((x, psnr.mean + sign * _std(psnr))) for sign in (-1, 1))
    return _between(tuple(bottom), tuple(top), by)


def _place(x: float, y: float, distance: float, angle: float, size: tuple[float, float]) -> Box:
    """A box whose nearest side is `distance` away from (x, y) in the direction `angle`."""
    width, height = size
    across, up = math.cos(angle), math.sin(angle)
    centre_x = x + across * distance + (width / 2) * (0 if abs(across) < 0.1 else math.copysign(1, across))
    centre_y = y + up * (distance + height / 2)
    return centre_x - width / 2, centre_y - height / 2, centre_x + width / 2, centre_y + height / 2


def _overlap(a: Box, b: Box) -> float:
    """Area in square pixels."""
    return max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))


def _outside(box: Box, frame: Any) -> float:
    """Area of the part beyond the axes."""
    return (box[2] - box[0]) * (box[3] - box[1]) - _overlap(box, tuple(frame))
