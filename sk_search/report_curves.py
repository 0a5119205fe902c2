"""Learning curves of a run as inline SVG: PSNR, cost against its targets, loss, entropy, temperature."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from .compare import COSTS
from .record import RunRecord, is_number
from .report_axes import BLUE, INK, MAGENTA, ORANGE, styled, svg_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Series = tuple[list[int], list[float]]

_MOST_POINTS = 500
_COSTS = {
    "macs_per_mp": ("GMAC per raw megapixel", 1e9),
    "parameters": ("thousand parameters", 1e3),
    "latency_ms": ("latency (ms)", 1.0),
}
"""Cost -> title, divisor."""
_DASHES = {"macs_per_mp": "-", "parameters": "--", "latency_ms": ":"}


def draw_curves(record: RunRecord) -> tuple[list[str], list[str]]:
    """One SVG a curve that has data: those as wide as the page, and those half as wide."""
    half = list(filter(None, (_entropy(record), _temperature(record), _undecided(record))))
    alone = len(half) % 2 == 0
    loss = _loss(record, 10.6 if alone else 5.2)
    wide = list(filter(None, (_psnr(record), _cost(record), loss if alone else "")))
    return wide, half if alone or not loss else [loss, *half]


def _psnr(record: RunRecord) -> str:
    """All stages: everything with the noisy level on the left, the last decibels on the right."""
    single, ensemble, noisy = (
        _all_stages(record, "validation", key) for key in ("psnr_db", "psnr_ensemble_db", "psnr_noisy_db")
    )
    if not single[0]:
        return ""
    with styled():
        figure = Figure(figsize=(10.6, 3.1), layout="constrained")
        whole, close = figure.subplots(1, 2)
        for axes in (whole, close):
            axes.plot(*_thinned(ensemble), "s-", color=ORANGE, markersize=3, label="with self-ensemble")
            axes.plot(*_thinned(single), "o-", color=BLUE, markersize=3, label="argmax network")
            _mark_finetuning(axes, record)
            _count_steps(axes)
        if noisy[1]:
            whole.axhline(noisy[1][-1], color=INK, linestyle="--", alpha=0.6, label="noisy input")
        whole.set(title="Validation PSNR (dB)")
        whole.legend(loc="best")
        low, high = _last_decibels(single[1], ensemble[1])
        close.set(title="The same, close up (dB)", ylim=(low, high))
        return svg_text(figure)


def _cost(record: RunRecord) -> str:
    """Every cost that has a target, and multiply-accumulates always; beside them what dual ascent did."""
    structure = record.settings.get("structure", {})
    targets = {cost: structure[f"target_{cost}"] for cost in COSTS if structure.get(f"target_{cost}")}
    series = {cost: record.search.series("train", cost) for cost in COSTS}
    drawn = [
        cost for cost in COSTS if series[cost][0] and (cost in targets or not targets or cost == COSTS[0])
    ]
    if not drawn:
        return ""
    multipliers = _multipliers(record)
    with styled():
        figure = Figure(figsize=(10.6, 2.7), layout="constrained")
        panels = figure.subplots(1, len(drawn) + bool(multipliers), squeeze=False)[0]
        for axes, cost in zip(panels, drawn, strict=False):
            _cost_panel(axes, record, cost, series[cost], targets.get(cost))
        for cost, of in multipliers.items():
            label = _COSTS[cost][0] if cost in _COSTS else cost
            panels[len(drawn)].plot(*_thinned(of), _DASHES.get(cost, "-."), color=MAGENTA, label=label)
        if multipliers:
            panels[len(drawn)].set(title="Multiplier of the target", ylim=(0, None))
            if len(multipliers) > 1:
                panels[len(drawn)].legend(loc="best")
            _count_steps(panels[len(drawn)])
        return svg_text(figure)


def _cost_panel(axes: Axes, record: RunRecord, cost: str, series: Series, target: float | None) -> None:
    title, unit = _COSTS[cost]
    steps, values = series
    axes.plot(*_thinned((steps, [v / unit for v in values])), color=BLUE, label="expected")
    if target:
        axes.axhline(target / unit, color=INK, linestyle="--", linewidth=1, alpha=0.7, label="target")
    found = (record.genotype or {}).get(cost)
    if is_number(found):
        axes.plot(steps[-1:], [found / unit], "D", color=ORANGE, markersize=5, clip_on=False, label="found")
    levels = [v / unit for v in (*values, target, found) if v]
    room = 0.06 * (max(levels) - min(levels)) or 0.05 * max(levels)
    axes.set(title=title[0].upper() + title[1:], ylim=(min(levels) - room, max(levels) + room))
    axes.legend(loc="best")
    _count_steps(axes)


def _multipliers(record: RunRecord) -> dict[str, Series]:
    rows = [row for row in record.search.rows if row["kind"] == "train" and row.get("multipliers")]
    names = dict.fromkeys(name for row in rows for name in row["multipliers"])
    return {
        name: (
            [row["step"] for row in rows if name in row["multipliers"]],
            [row["multipliers"][name] for row in rows if name in row["multipliers"]],
        )
        for name in names
    }


def _loss(record: RunRecord, width: float) -> str:
    steps, values = _all_stages(record, "train", "loss")
    if not steps:
        return ""
    with _panel("Training loss (remaining over original noise power, dB)", width) as (figure, axes):
        axes.plot(*_thinned((steps, values)), color=BLUE, alpha=0.3, linewidth=0.8, label="as logged")
        axes.plot(*_thinned((steps, _smoothed(values))), color=BLUE, label="smoothed")
        _mark_finetuning(axes, record)
        axes.legend(loc="best")
        return svg_text(figure)


def _entropy(record: RunRecord) -> str:
    series = record.search.series("train", "entropy")
    if not series[0]:
        return ""
    with _panel("Entropy of the structure (mean; 1: nothing decided)") as (figure, axes):
        axes.plot(*_thinned(series), color=BLUE)
        axes.set_ylim(0, 1.03)
        return svg_text(figure)


def _undecided(record: RunRecord) -> str:
    series = record.search.series("train", "undecided")
    if not series[0]:
        return ""
    with _panel("Undecided superkernels") as (figure, axes):
        axes.step(*_thinned(series), where="post", color=BLUE)
        axes.set_ylim(0, 1.05 * max(*series[1], 1))
        axes.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
        return svg_text(figure)


def _temperature(record: RunRecord) -> str:
    series = record.search.series("train", "temperature")
    if not series[0]:
        return ""
    with _panel("Gumbel temperature") as (figure, axes):
        axes.plot(*_thinned(series), color=BLUE)
        axes.set_yscale("log")
        ticks = [
            tick
            for tick in (0.1, 0.2, 0.5, 1, 2, 5)
            if 0.99 * min(series[1]) <= tick <= 1.01 * max(series[1])
        ]
        axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.minorticks_off()
        return svg_text(figure)


def _all_stages(record: RunRecord, kind: str, key: str) -> Series:
    """Each goes on where the one before ended."""
    steps, values, begin = [], [], 0
    for stage in record.stages.values():
        own, more = stage.series(kind, key)
        steps += [begin + step for step in own]
        values += more
        begin += stage.step
    return steps, values


def _mark_finetuning(axes: Axes, record: RunRecord) -> None:
    if record.search.rows and record.finetune.rows:
        axes.axvline(
            record.search.step, color=INK, linestyle=":", linewidth=1, alpha=0.8, label="fine-tuning begins"
        )


def _count_steps(axes: Axes) -> None:
    """Steps along the bottom, few enough not to touch: 0, 5k, 10k."""
    axes.set_xlabel("step")
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    axes.xaxis.set_major_formatter(
        FuncFormatter(lambda step, _: f"{step / 1e3:g}k" if abs(step) >= 1e3 else f"{step:g}")
    )


def _last_decibels(single: list[float], ensemble: list[float]) -> tuple[float, float]:
    """A range that holds the better two thirds of the validations."""
    low, high = sorted(single)[len(single) // 3], max(single + ensemble)
    room = max(0.1 * (high - low), 0.02)
    return low - room, high + room


def _smoothed(values: list[float]) -> list[float]:
    """Exponential mean over about a thirtieth of the run."""
    keep = 1 - 1 / max(1.0, len(values) / 30)
    smooth = [values[0]]
    for value in values[1:]:
        smooth.append(keep * smooth[-1] + (1 - keep) * value)
    return smooth


def _thinned(series: Series) -> Series:
    """At most _MOST_POINTS of a curve, the last one kept."""
    stride = -(-len(series[0]) // _MOST_POINTS) or 1
    steps, values = (list(reversed(part[::-1][::stride])) for part in series)
    return steps, values


@contextmanager
def _panel(title: str, width: float = 5.2) -> Iterator[tuple[Figure, Axes]]:
    with styled():
        figure = Figure(figsize=(width, 2.3), layout="constrained")
        axes = figure.subplots()
        axes.set(title=title)
        _count_steps(axes)
        yield figure, axes
