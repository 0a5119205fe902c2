"""How every superkernel made up its mind: one small picture each, inline SVG.

Stacked bands are the probabilities of the kernel sizes over the search, in the colours of the architecture
drawing; the line is the expected number of filters, full height being the most it could keep.
"""

from __future__ import annotations

from html import escape

from sk_deploy.genotype import Gene

from .record import Rows, RunRecord
from .report_architecture import kernel_colour

_WIDTH, _HEIGHT = 170, 52
_MOST_POINTS = 90


def draw_evolution(record: RunRecord, found: list[Gene]) -> list[str]:
    """One SVG a superkernel; none where the search logged no structure."""
    rows = [
        row for row in record.search.rows if row["kind"] == "train" and "kernels" in row and "widths" in row
    ]
    rows = rows[:: -(-len(rows) // _MOST_POINTS) or 1]
    if len(rows) < 2:
        return []
    return [_strip(rows, gene) for gene in found if all(gene.name in row["kernels"] for row in rows)]


def used_shares(record: RunRecord, gene: Gene) -> list[float] | None:
    """Share of the search's samples that used each of `gene.kernels`; None where nobody counted."""
    counts = (record.search.latest("uses") or {}).get(gene.name)
    if not counts or len(counts) != len(gene.kernels) or sum(counts) <= 0:
        return None
    return [count / sum(counts) for count in counts]


def _strip(rows: Rows, gene: Gene) -> str:
    first, last = rows[0]["step"], rows[-1]["step"]
    xs = [_WIDTH * (row["step"] - first) / max(last - first, 1) for row in rows]
    floor = [0.0] * len(rows)
    parts = []
    for index, kernel in enumerate(gene.kernels):
        top = [low + row["kernels"][gene.name][index] for low, row in zip(floor, rows, strict=True)]
        outline = [*zip(xs, top, strict=True), *zip(reversed(xs), reversed(floor), strict=True)]
        parts.append(
            f'<polygon points="{_path(outline)}" fill="{kernel_colour(kernel)}" fill-opacity=".75"/>'
        )
        floor = top
    widths = [row["widths"][gene.name] / gene.max_filters for row in rows]
    parts.append(f'<polyline points="{_path(list(zip(xs, widths, strict=True)))}" class="width"/>')
    sizes = ", ".join(
        f"{k}×{k} {p:.2f}" for k, p in zip(gene.kernels, gene.kernel_probabilities, strict=True)
    )
    hint = (
        f"{gene.name}: steps {first} to {last}; at the end {sizes}; "
        f"{rows[-1]['widths'][gene.name]:.1f} of {gene.max_filters} filters expected"
    )
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" preserveAspectRatio="none">'
        f"<title>{escape(hint)}</title>{''.join(parts)}</svg>"
    )


def _path(points: list[tuple[float, float]]) -> str:
    """(x, share of the height) -> SVG points."""
    return " ".join(f"{x:.1f},{_HEIGHT * (1 - share):.1f}" for x, share in points)
