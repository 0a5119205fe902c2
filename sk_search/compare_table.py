"""A comparison as tables: the same cells for the terminal and for the page."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from .compare import Comparison, Entry, Gain, Group, Spread
from .record import duration

STAGES = {"search": "searched network (supernet at its argmax)", "finetune": "fine-tuned network"}

UNITS = {"macs_per_mp": ("GMAC/MP", 1e9, 2), "parameters": ("k param.", 1e3, 1), "latency_ms": ("ms", 1, 1)}
"""Cost -> heading, divisor, decimals."""

_SETTINGS = ("preset", "type", "mode", "arch")


@dataclass(frozen=True)
class Table:
    """Text cells; the first `left` columns are words, the others numbers."""

    headings: list[str]
    rows: list[list[str]]
    left: int


def comparison_text(comparison: Comparison) -> str:
    """Tables and notes for a terminal, without a newline at the end."""
    parts = [caption(comparison), _columns(run_table(comparison))]
    if worth_grouping(comparison):
        parts.append(_columns(group_table(comparison)))
    parts.append("\n".join(f"note: {note}" for note in comparison.notes))
    return "\n\n".join(filter(None, parts))


def caption(comparison: Comparison) -> str:
    """How many runs, what they have in common, and which validation the numbers are."""
    entries = comparison.entries
    common = [value for name, value in _shared(comparison).items() if value]
    runs = f"{len(entries)} runs" if len(entries) > 1 else "1 run"
    return f"{', '.join([runs, *common])}; best validation of the {STAGES[comparison.stage]}"


def worth_grouping(comparison: Comparison) -> bool:
    """Whether groups say more than runs: a run repeated with another seed, or a baseline to gain over."""
    return any(len(group.entries) > 1 or group.gains for group in comparison.groups)


def run_table(comparison: Comparison) -> Table:
    """One row a run. Settings that all runs share are in the caption, facts that no run has are left out."""
    shared = _shared(comparison)
    settings = [name for name in _SETTINGS if name not in shared]
    columns: list[tuple[str, Callable[[Entry], str]]] = [
        ("run", lambda e: e.name),
        *((name, lambda e, name=name: getattr(e, name)) for name in settings),
        ("seed", lambda e: str(e.seed)),
        *((UNITS[cost][0], lambda e, cost=cost: _cost(e, cost)) for cost in UNITS),
        ("PSNR dB", lambda e: _number(e.psnr_db, 3)),
        ("ensemble dB", lambda e: _number(e.psnr_ensemble_db, 3)),
        ("SSIM", lambda e: _number(e.ssim, 4)),
        ("undecided", _undecided),
        ("time", lambda e: duration(e.seconds) if e.seconds else ""),
    ]
    return _table(columns, comparison.entries, left=1 + len(settings))


def group_table(comparison: Comparison) -> Table:
    """One row a group: mean ± standard deviation over its seeds, and gains over baselines of equal cost."""
    kinds = list(dict.fromkeys(gain.baseline for group in comparison.groups for gain in group.gains))
    columns: list[tuple[str, Callable[[Group], str]]] = [
        ("group", lambda g: g.name),
        ("runs", lambda g: str(len(g.entries))),
        *((UNITS[cost][0], lambda g, cost=cost: _mean(g, cost)) for cost in UNITS),
        ("PSNR dB", lambda g: spread(g.psnr_db, 3)),
        ("ensemble dB", lambda g: spread(g.psnr_ensemble_db, 3)),
        ("SSIM", lambda g: spread(g.ssim, 4)),
        *((f"over {kind} dB", lambda g, kind=kind: _gain(g.gains, kind)) for kind in kinds),
        ("Pareto", lambda g: "front" if g.on_front else ""),
    ]
    return _table(columns, comparison.groups, left=1)


def spread(of: Spread | None, decimals: int, sign: str = "") -> str:
    """mean ± std, or the mean alone for one run."""
    if of is None:
        return ""
    text = f"{of.mean:{sign}.{decimals}f}"
    return text if of.std is None else f"{text} ± {of.std:.{decimals}f}"


def _shared(comparison: Comparison) -> dict[str, str]:
    """Settings that are the same in all runs."""
    values = {name: {getattr(entry, name) for entry in comparison.entries} for name in _SETTINGS}
    return {name: of.pop() for name, of in values.items() if len(of) == 1}


def _cost(entry: Entry, cost: str) -> str:
    value = getattr(entry, cost)
    _, by, decimals = UNITS[cost]
    return "" if value is None else f"{'~' if entry.expected else ''}{value / by:,.{decimals}f}"


def _mean(group: Group, cost: str) -> str:
    spread, (_, by, decimals) = getattr(group, cost), UNITS[cost]
    return "" if spread is None else f"{spread.mean / by:,.{decimals}f}"


def _undecided(entry: Entry) -> str:
    if entry.undecided is None:
        return ""
    return f"{entry.undecided} of {entry.superkernels}" if entry.superkernels else f"{entry.undecided}"


def _gain(gains: Iterable[Gain], kind: str) -> str:
    """With the cost where it differs by more than 2 %: +0.123 ± 0.010 at ×0.97."""
    for gain in gains:
        if gain.baseline == kind:
            cost = f" at ×{gain.cost_ratio:.2f}" if abs(gain.cost_ratio - 1) > 0.02 else ""
            return f"{spread(gain.psnr_db, 3, sign='+')}{cost}"
    return ""


def _number(value: float | None, decimals: int) -> str:
    return "" if value is None else f"{value:.{decimals}f}"


def _table(columns: list[tuple[str, Callable[[Any], str]]], of: Iterable[Any], left: int) -> Table:
    """Columns that are empty in every row are left out, a single empty cell is a dash."""
    cells = [[text(row) for _, text in columns] for row in of]
    kept = [i for i in range(len(columns)) if any(row[i] for row in cells)]
    return Table([columns[i][0] for i in kept], [[row[i] or "–" for i in kept] for row in cells], left)


def _columns(table: Table) -> str:
    lines = [table.headings, *table.rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(table.headings))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if i < table.left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )
