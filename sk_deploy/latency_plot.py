"""The distribution of latencies as a picture: an SVG, which any browser opens, and no plotting library."""

from __future__ import annotations

import math
from html import escape
from pathlib import Path

from .profile import Profile
from .whole import whole

WIDTH, HEIGHT = 720, 400
LEFT, RIGHT, TOP, BOTTOM = 60, 20, 50, 50
COLOURS = ("#1f5fa8", "#c2571a")
SHARES = (0.0, 0.5, 0.9, 0.99)
"""That have a line across."""


def write_plot(measured: dict[str, Profile], path: Path) -> None:
    """Draw the share of runs that took at most so many milliseconds, of one or two models by name.

    A whole line is end to end, a dashed one the network alone. Raises SkdnError where it cannot be written.
    """
    with whole(path) as temporary:
        temporary.write_text(svg(measured), encoding="utf-8")


def svg(measured: dict[str, Profile]) -> str:
    """The picture; every sample is a step of a line."""
    samples = [ms for one in measured.values() for span in (one.total, one.network) for ms in span.samples_ms]
    low, high, step = _axis(min(samples), max(samples))
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        'font-family="sans-serif" font-size="12" fill="#222">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>',
    ]
    for index, ((name, one), colour) in enumerate(zip(measured.items(), COLOURS, strict=False)):
        legend = f"{name} on {one.provider}: end to end p50 {one.total.p50_ms:.4g} ms (whole line), "
        legend += f"network p50 {one.network.p50_ms:.4g} ms (dashed)"
        parts.append(f'<text x="{LEFT}" y="{18 + 16 * index}" fill="{colour}">{escape(legend)}</text>')
    for share in SHARES:
        y = _y(share)
        parts.append(f'<path d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}" stroke="#ddd"/>')
        label_y = y if share == 0.99 else y + 4
        parts.append(f'<text x="{LEFT - 6}" y="{label_y:.1f}" text-anchor="end">{100 * share:.0f} %</text>')
    for tick in range(round((high - low) / step) + 1):
        ms = low + tick * step
        x = _x(ms, low, high)
        parts.append(f'<path d="M{x:.1f} {TOP}V{HEIGHT - BOTTOM}" stroke="#eee"/>')
        parts.append(f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{ms:g}</text>')
    one = next(iter(measured.values()))
    below = f"share of {len(one.total.samples_ms)} runs that took at most so many ms, "
    below += f"{one.width_px}×{one.height_px} px{', self-ensemble' * one.ensemble}"
    parts.append(f'<text x="{WIDTH / 2}" y="{HEIGHT - 12}" text-anchor="middle">{below}</text>')
    for one, colour in zip(measured.values(), COLOURS, strict=False):
        for span, dashes in ((one.total, ""), (one.network, ' stroke-dasharray="5 3"')):
            line = _steps(span.samples_ms, low, high)
            parts.append(f'<path d="{line}" fill="none" stroke="{colour}" stroke-width="1.8"{dashes}/>')
    return "\n".join([*parts, "</svg>\n"])


def _axis(least_ms: float, most_ms: float) -> tuple[float, float, float]:
    """Both ends and the step of the ticks: 1, 2 or 5 times a power of ten, about eight of them."""
    rough = max(most_ms - least_ms, 1e-3 * most_ms, 1e-6) / 8
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)
    low = math.floor(least_ms / step) * step
    return low, max(math.ceil(most_ms / step) * step, low + step), step


def _steps(samples_ms: list[float], low: float, high: float) -> str:
    """The empirical distribution: up by one run's share at each sample."""
    line = f"M{_x(min(samples_ms), low, high):.1f} {_y(0):.1f}"
    for rank, ms in enumerate(sorted(samples_ms), 1):
        line += f"H{_x(ms, low, high):.1f}V{_y(rank / len(samples_ms)):.1f}"
    return line


def _x(ms: float, low: float, high: float) -> float:
    return LEFT + (WIDTH - LEFT - RIGHT) * (ms - low) / (high - low)


def _y(share: float) -> float:
    return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * share
