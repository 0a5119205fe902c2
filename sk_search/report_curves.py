"""Learning curves of a run as inline SVG: PSNR, loss, expected cost, entropy, temperature.

Ink is `currentColor`, so the curves follow the page between light and dark.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import matplotlib
from matplotlib.figure import Figure

from .record import RunRecord

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Series = tuple[list[int], list[float]]

_INK = "#010203"  # stands for currentColor until the SVG is written
_BLUE, _GREEN, _PINK, _VIOLET, _ORANGE, _RED = (
    "#3d8bd4",
    "#2fa36b",
    "#cf4a86",
    "#7d5fc9",
    "#eb9d2a",
    "#d6453d",
)
_MOST_POINTS = 500
_INKED = ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color", "grid.color")
_STYLE = {
    **dict.fromkeys(_INKED, _INK),
    "svg.fonttype": "none",
    "svg.hashsalt": "skdn",
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.15,
    "axes.formatter.useoffset": False,
    "legend.frameon": False,
    "lines.linewidth": 1.5,
}


def draw_curves(record: RunRecord) -> list[str]:
    """One SVG a curve that has data, PSNR first."""
    figures = (_psnr(record), _loss(record), _cost(record), _entropy(record), _temperature(record))
    return [figure for figure in figures if figure]


def _psnr(record: RunRecord) -> str:
    """Both stages: everything with the noisy level on the left, the last decibels on the right."""
    single, ensemble, noisy = (
        _both_stages(record, "validation", key) for key in ("psnr_db", "psnr_ensemble_db", "psnr_noisy_db")
    )
    if not single[0]:
        return ""
    with _styled():
        figure = Figure(figsize=(10.6, 3.1), layout="constrained")
        whole, close = figure.subplots(1, 2)
        for axes in (whole, close):
            axes.plot(*_thinned(ensemble), ".-", color=_GREEN, label="with self-ensemble")
            axes.plot(*_thinned(single), ".-", color=_BLUE, label="argmax network")
            _mark_finetuning(axes, record)
        whole.plot(*noisy, "--", color=_INK, alpha=0.6, label="noisy input")
        whole.set(title="Validation PSNR (dB)", xlabel="step")
        whole.legend(loc="best")
        low, high = _last_decibels(single[1], ensemble[1])
        close.set(title="The same, close up", xlabel="step", ylim=(low, high))
        return _svg(figure)


def _loss(record: RunRecord) -> str:
    steps, values = _both_stages(record, "train", "loss")
    if not steps:
        return ""
    with _panel("Training loss") as (figure, axes):
        axes.plot(*_thinned((steps, values)), color=_PINK, alpha=0.3, linewidth=0.8, label="as logged")
        axes.plot(*_thinned((steps, _smoothed(values))), color=_PINK, label="smoothed")
        _mark_finetuning(axes, record)
        axes.legend(loc="best")
        return _svg(figure)


def _cost(record: RunRecord) -> str:
    steps, macs = record.search.series("train", "macs_per_mp")
    if not steps:
        return ""
    with _panel("Expected cost (GMAC per raw megapixel)") as (figure, axes):
        axes.plot(*_thinned((steps, [m / 1e9 for m in macs])), color=_RED)
        target = record.settings.get("structure", {}).get("target_macs_per_mp")
        if target:
            axes.axhline(target / 1e9, color=_INK, linestyle="--", linewidth=1, alpha=0.6, label="target")
            axes.legend(loc="best")
        return _svg(figure)


def _entropy(record: RunRecord) -> str:
    series = record.search.series("train", "entropy")
    if not series[0]:
        return ""
    with _panel("Entropy of the structure (mean; 1: nothing decided)") as (figure, axes):
        axes.plot(*_thinned(series), color=_VIOLET)
        axes.set_ylim(0, 1.03)
        return _svg(figure)


def _temperature(record: RunRecord) -> str:
    series = record.search.series("train", "temperature")
    if not series[0]:
        return ""
    with _panel("Gumbel temperature") as (figure, axes):
        axes.plot(*_thinned(series), color=_ORANGE)
        axes.set_yscale("log")
        ticks = [
            tick
            for tick in (0.1, 0.2, 0.5, 1, 2, 5)
            if min(series[1]) <= 1.01 * tick <= 1.02 * max(series[1])
        ]
        axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.minorticks_off()
        return _svg(figure)


def _both_stages(record: RunRecord, kind: str, key: str) -> Series:
    """Fine-tuning goes on where the search ended."""
    (steps, values), (later, more) = (stage.series(kind, key) for stage in record.stages.values())
    return [*steps, *(record.search.step + step for step in later)], [*values, *more]


def _mark_finetuning(axes: Axes, record: RunRecord) -> None:
    if record.search.rows and record.finetune.rows:
        axes.axvline(
            record.search.step, color=_INK, linestyle=":", linewidth=1, alpha=0.8, label="fine-tuning begins"
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
def _panel(title: str) -> Iterator[tuple[Figure, Axes]]:
    with _styled():
        figure = Figure(figsize=(5.2, 2.3), layout="constrained")
        axes = figure.subplots()
        axes.set(title=title, xlabel="step")
        yield figure, axes


def _styled() -> Any:
    return matplotlib.rc_context(_STYLE)


def _svg(figure: Figure) -> str:
    """SVG text without prologue or date, its ink turned into currentColor."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :].replace(_INK, "currentColor")
    return re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
