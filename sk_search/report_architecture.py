"""The searched U-Net as a drawing: an SVG that stands alone in a model card or inside the report.

Encoder levels go down on the left, decoder levels up on the right, skips between. One box a superkernel: its
outline is as high as the filters it could have had, its filling is the filters it kept (each at its index, so
scattered filters look scattered), its colour the kernel size. The bar below is the probability of that slice.
Blocks that were left out since are pale.
"""

from __future__ import annotations

from html import escape
from itertools import groupby
from math import ceil
from pathlib import Path
from typing import Any

from sk_deploy.genotype import Gene, genes
from sk_deploy.whole import check_place, whole

KERNEL_COLOURS = {1: "#9aa5b0", 3: "#3d8bd4", 5: "#eb9d2a", 7: "#a8326f", 9: "#5b3fa8"}
"""Kernel size -> colour, the same in every figure: on white and on black, in print, for any eyes."""

_BOX, _GAP, _PAD, _BLOCK_GAP, _OUT = 46, 14, 13, 8, 6  # widths, in SVG units
_TALLEST, _SHORTEST = 92, 12  # box outlines
_LABELS = 72  # below a box: bar, kernel, filters, probability, entropy
_HEADING, _ROW_GAP, _INDENT, _MARGIN = 22, 36, 54, 16
_LINE = 3  # blocks side by side; those of a longer level go on below, as words do
_STEP_WIDTH = 156
_JOIN_WIDTH = 3 * (_STEP_WIDTH + 26) + 110

_STYLE = """
.skdn-net{color:#22303c;font:11px system-ui,-apple-system,'Segoe UI','DejaVu Sans',sans-serif}
.skdn-net .group{fill:currentColor;fill-opacity:.045;stroke:currentColor;stroke-opacity:.16;rx:6px}
.skdn-net .track{fill:currentColor;fill-opacity:.14}
.skdn-net .max{fill:none;stroke:currentColor;stroke-opacity:.4}
.skdn-net .unsure{stroke:#d6453d;stroke-opacity:1;stroke-dasharray:3 2;stroke-width:1.6}
.skdn-net .out{opacity:.3}
.skdn-net .fixed{fill:currentColor;fill-opacity:.28}
.skdn-net .flow{fill:none;stroke:currentColor;stroke-opacity:.6;stroke-width:1.3}
.skdn-net .skip{stroke-dasharray:5 4}
.skdn-net .tip{fill:currentColor;fill-opacity:.6}
.skdn-net text{fill:currentColor}
.skdn-net .soft{fill-opacity:.68}
.skdn-net .mid{text-anchor:middle}
.skdn-net .end{text-anchor:end}
.skdn-net .bold{font-weight:600}
@media screen and (prefers-color-scheme:dark){.skdn-net{color:#dfe6ec}}
"""


def draw_architecture(genotype: dict[str, Any]) -> str:
    """A genotype (the dict of `genotype.json`) as SVG text. Raises ModelError for a damaged one."""
    found = genes(genotype)
    scale = _TALLEST / max((gene.max_filters for gene in found), default=1)
    kernels = sorted({k for gene in found for k in gene.kernels})
    legend, width = _legend(kernels, bool(genotype.get("left_out")))
    drawings, y = [], 0.0
    for network, members in groupby(found, key=lambda gene: gene.place.network):
        drawing = _UNet(network, list(members), genotype, scale)
        drawings.append((drawing, y))
        y += drawing.height
        width = max(width, drawing.width)
    joined = bool(found and found[0].place.network)
    width = max(width, _JOIN_WIDTH + 2 * _MARGIN) if joined else width
    body = "".join(_moved(drawing.svg(), (width - drawing.width) / 2, top) for drawing, top in drawings)
    if joined:
        body += _moved(_join(len(drawings)), (width - _JOIN_WIDTH) / 2, y + 24)
        y += 80
    title = f"Searched {genotype.get('arch', 'network')}: {len(found)} superkernels"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="skdn-net" role="img" aria-label="{escape(title)}" '
        f'viewBox="0 0 {width:g} {y + 58:g}" width="{width:g}"><style>{_STYLE}</style>'
        f"{body}{_moved(legend, 0, y + 14)}</svg>"
    )


def write_architecture(genotype: dict[str, Any], path: Path, force: bool = False) -> None:
    """The drawing as a file. Raises ConfigError where one is already, unless `force`."""
    check_place(path, force=force)
    with whole(path) as temporary:
        temporary.write_text(draw_architecture(genotype) + "\n", encoding="utf-8")


def kernel_colour(kernel: int) -> str:
    """The colour of a kernel size; grey for sizes that have none."""
    return KERNEL_COLOURS.get(kernel, "#8a94a0")


class _Row:
    """One group of blocks at one level: where it is, and what it holds."""

    def __init__(self, title: str, members: list[Gene]) -> None:
        self.title = title
        blocks = [list(block) for _, block in groupby(members, key=lambda gene: gene.place.block)]
        lines = max(ceil(len(blocks) / _LINE), 1)
        each = max(ceil(len(blocks) / lines), 1)
        self.lines = [blocks[at : at + each] for at in range(0, len(blocks), each)]
        self.x = self.y = 0.0

    @property
    def width(self) -> float:
        widths = [sum(map(_block_width, line)) + _BLOCK_GAP * (len(line) - 1) for line in self.lines]
        return max(widths, default=0.0)

    @property
    def right(self) -> float:
        return self.x + self.width

    def line_height(self, scale: float) -> float:
        return _LABELS + max(_outline(gene, scale) for line in self.lines for block in line for gene in block)

    def height(self, scale: float) -> float:
        """Of all lines, and the gaps between them."""
        if not self.lines:
            return _LABELS
        return len(self.lines) * (self.line_height(scale) + _BLOCK_GAP) - _BLOCK_GAP


class _UNet:
    """The layout of one U-Net. Rows from the top: level 0, 1, ..., the bottom."""

    def __init__(self, network: str, members: list[Gene], genotype: dict[str, Any], scale: float) -> None:
        self.scale = scale
        self.network = network
        self.way_up = _way_up(genotype)
        self.left_out = frozenset(genotype.get("left_out", ()))
        widths = genotype.get("net", {}).get("widths", [])
        by_side = {
            (side, level): list(group)
            for (side, level), group in groupby(members, key=lambda gene: (gene.place.side, gene.place.level))
        }
        levels = sorted({level for _, level in by_side if level >= 0})
        self.encoder = [_Row(_heading("encoder", n, widths), by_side.get(("encoder", n), [])) for n in levels]
        joined = [2 * width for width in widths] if network else widths  # a subnetwork's concatenations
        self.decoder = [_Row(_heading("decoder", n, joined), by_side.get(("decoder", n), [])) for n in levels]
        self.bottom = _Row(_heading("bottom", len(levels), widths), by_side.get(("bottom", -1), []))
        self._place()

    def _place(self) -> None:
        every = [*self.encoder, *self.decoder, self.bottom]
        widest = max(row.width for row in every)
        steps = max(len(self.encoder) - 1, 0)
        middle = max(
            90.0, self.bottom.width - 70
        )  # the bottom reaches under both sides, so arrows fall on it
        left = _MARGIN + 66
        self.width = 2 * left + 2 * (widest + steps * _INDENT) + middle
        y = 32.0 if self.network else 46.0
        for level, (down, up) in enumerate(zip(self.encoder, self.decoder, strict=True)):
            down.x, down.y = left + level * _INDENT + widest - down.width, y
            up.x, up.y = self.width - left - level * _INDENT - widest, y
            y += self._height(down, up) + _ROW_GAP
        self.bottom.x, self.bottom.y = (self.width - self.bottom.width) / 2, y
        self.height = y + self._height(self.bottom) + 12

    def _height(self, *rows: _Row) -> float:
        return max(row.height(self.scale) for row in rows) + _HEADING

    def svg(self) -> str:
        parts = [self._frame()]
        for down, up in zip(self.encoder, self.decoder, strict=True):
            height = self._height(down, up)
            middle = down.y + height / 2
            parts.append(_arrow(f"M{down.right:g} {middle:g}H{up.x:g}", up.x, middle, "right", skip=True))
            skip = "skip, attention" if self.network else "skip"
            parts.append(_text((down.right + up.x) / 2, middle - 5, skip, "soft mid"))
            parts += [self._row(down, height), self._row(up, height)]
        parts.append(self._row(self.bottom, self._height(self.bottom)))
        for above, below in zip(self.encoder, [*self.encoder[1:], self.bottom], strict=True):
            x, end = above.right - 18, below.y
            parts.append(_arrow(f"M{x:g} {self._under(above):g}V{end:g}", x, end, "down"))
            parts.append(_text(x - 7, end - _ROW_GAP / 2 + 4, "stride 2", "soft end"))
        for above, below in zip(self.decoder, [*self.decoder[1:], self.bottom], strict=True):
            x, end = above.x + 18, self._under(above)
            parts.append(_arrow(f"M{x:g} {below.y:g}V{end:g}", x, end, "up"))
            parts.append(_text(x + 7, below.y - _ROW_GAP / 2 + 4, self.way_up, "soft"))
        return "".join(parts)

    def _under(self, row: _Row) -> float:
        level = (self.encoder if row in self.encoder else self.decoder).index(row)
        return row.y + self._height(self.encoder[level], self.decoder[level])

    def _frame(self) -> str:
        """Input and output; where the network stands alone, the global residual over the top."""
        if not self.encoder:
            return ""
        first, last = self.encoder[0], self.decoder[0]
        middle = first.y + self._height(first, last) / 2
        x_in, x_out, top = _MARGIN + 24, self.width - _MARGIN - 24, first.y - 20
        parts = [
            _text(x_in, middle + 26, "noisy", "mid bold"),
            _text(x_in, middle + 40, "R Gr Gb B", "mid soft"),
            _arrow(f"M{x_in + 10:g} {middle:g}H{first.x:g}", first.x, middle, "right"),
            _arrow(f"M{last.right:g} {middle:g}H{x_out - 11:g}", x_out - 11, middle, "right"),
            f'<circle cx="{x_in:g}" cy="{middle:g}" r="10" class="group"/>',
            f'<circle cx="{x_out:g}" cy="{middle:g}" r="10" class="{"group" if self.network else "flow"}"/>',
        ]
        if self.network:
            return "".join(
                [
                    *parts,
                    _text(x_out, middle + 26, "features", "mid bold"),
                    _text(_MARGIN, 18, self.network, "bold"),
                ]
            )
        residual = f"M{x_in:g} {middle - 10:g}V{top:g}H{x_out:g}V{middle - 11:g}"
        return "".join(
            [
                *parts,
                _text(x_out, middle + 26, "clean", "mid bold"),
                _arrow(residual, x_out, middle - 11, "down", skip=True),
                _text(x_out, middle + 4.5, "+", "mid bold"),
                _text(self.width / 2, top - 5, "input + residual", "mid soft"),
            ]
        )

    def _row(self, row: _Row, height: float) -> str:
        if not row.lines:
            return ""
        parts = [
            _rect(row.x, row.y, row.width, height, "group"),
            _text(row.x + 9, row.y + 15, row.title, "soft"),
        ]
        one = row.line_height(self.scale)
        base = row.y + height - row.height(self.scale) + one - _LABELS
        for line in row.lines:
            x = row.x
            for block in line:
                parts.append(self._block(block, x + _PAD, base))
                x += _block_width(block) + _BLOCK_GAP
            base += one + _BLOCK_GAP
        return "".join(parts)

    def _block(self, block: list[Gene], x: float, base: float) -> str:
        """A block's boxes on the line y = base, and its output convolution."""
        parts = [_box(gene, x + n * (_BOX + _GAP), base, self.scale) for n, gene in enumerate(block)]
        parts.append(_rect(x + len(block) * (_BOX + _GAP), base - 20, _OUT, 20, "fixed"))
        drawn = "".join(parts)
        pale = block[0].name.rpartition(".")[0] in self.left_out
        return f'<g class="out">{drawn}</g>' if pale else drawn


def _way_up(genotype: dict[str, Any]) -> str:
    """How a level comes up: the compact U-Net's choice; the paper's networks have none."""
    if genotype.get("arch") != "compact-unet":
        return "pixel shuffle"
    nearest = genotype.get("net", {}).get("up") == "nearest"
    return "nearest neighbours" if nearest else "transposed convolution"


def _join(count: int) -> str:
    """What makes the features of `count` subnetworks the clean planes."""
    of = "1 subnetwork" if count == 1 else f"{count} subnetworks"
    steps = (f"features of {of}", "channel attention", "convolution 3×3")
    parts, x = [], 0.0
    for step in steps:
        parts += [
            _rect(x, 0, _STEP_WIDTH, 34, "group"),
            _text(x + _STEP_WIDTH / 2, 21, step, "mid"),
            _arrow(f"M{x + _STEP_WIDTH:g} 17h26", x + _STEP_WIDTH + 26, 17, "right"),
        ]
        x += _STEP_WIDTH + 26
    return "".join(
        [
            *parts,
            f'<circle cx="{x + 10:g}" cy="17" r="10" class="flow"/>',
            _text(x + 10, 21.5, "+", "mid bold"),
            _text(x + 26, 21, "noisy = clean", "bold"),
        ]
    )


def _box(gene: Gene, x: float, base: float, scale: float) -> str:
    """One superkernel on the line y = base, with the facts on hover."""
    outline, colour = _outline(gene, scale), kernel_colour(gene.kernel)
    unit = outline / gene.max_filters
    parts = [
        _rect(x, base - unit * (last + 1), _BOX, unit * (last + 1 - first), fill=colour)
        for first, last in _runs(gene.filters)
    ]
    unsure = " unsure" if gene.undecided else ""
    centre = x + _BOX / 2
    return (
        f"<g><title>{escape(_facts(gene))}</title>{''.join(parts)}"
        + _rect(x, base - outline, _BOX, outline, f"max{unsure}")
        + _rect(x, base + 5, _BOX, 3, "track")
        + _rect(x, base + 5, _BOX * gene.probability, 3, fill=colour)
        + _text(centre, base + 22, f"{gene.kernel}×{gene.kernel}", "mid bold")
        + _text(centre, base + 36, f"{len(gene.filters)}/{gene.max_filters}", "mid soft")
        + _text(centre, base + 50, f"p {gene.probability:.2f}", "mid soft")
        + _text(centre, base + 63, f"H {gene.entropy:.2f}", "mid soft")
        + "</g>"
    )


def _facts(gene: Gene) -> str:
    sizes = ", ".join(
        f"{k}×{k} {p:.2f}" for k, p in zip(gene.kernels, gene.kernel_probabilities, strict=True)
    )
    doubt = " (undecided)" if gene.undecided else ""
    return (
        f"{gene.name}\n"
        f"kernel {gene.kernel}×{gene.kernel}, {len(gene.filters)} of {gene.max_filters} filters\n"
        f"probability {gene.probability:.3f}, entropy {gene.entropy:.3f}{doubt}\n{sizes}"
    )


def _runs(filters: tuple[int, ...]) -> list[tuple[int, int]]:
    """First and last index of each stretch of neighbouring filters."""
    runs: list[tuple[int, int]] = []
    for f in filters:
        if runs and f == runs[-1][1] + 1:
            runs[-1] = (runs[-1][0], f)
        else:
            runs.append((f, f))
    return runs


def _outline(gene: Gene, scale: float) -> float:
    return max(_SHORTEST, scale * gene.max_filters)


def _block_width(block: list[Gene]) -> float:
    return 2 * _PAD + len(block) * (_BOX + _GAP) + _OUT


def _heading(side: str, level: int, widths: list[int]) -> str:
    """Side and level, channels, and the resolution as a part of the packed planes'."""
    channels = [f"{widths[level]} ch"] if level < len(widths) else []
    return " · ".join([side if side == "bottom" else f"{side} {level}", *channels, f"1/{2**level}"])


def _rect(x: float, y: float, width: float, height: float, style: str = "", fill: str = "") -> str:
    paint = f'fill="{fill}"' if fill else f'class="{style}"'
    return f'<rect x="{x:.5g}" y="{y:.5g}" width="{width:.5g}" height="{height:.5g}" {paint}/>'


def _text(x: float, y: float, text: str, style: str) -> str:
    return f'<text x="{x:g}" y="{y:g}" class="{style}">{escape(text)}</text>'


def _arrow(path: str, x: float, y: float, towards: str, skip: bool = False) -> str:
    """A line along `path` with its tip at (x, y)."""
    turn = {"right": 0, "down": 90, "up": -90}[towards]
    return (
        f'<path d="{path}" class="flow{" skip" if skip else ""}"/>'
        f'<path d="M0 0L-8 -4V4Z" class="tip" transform="translate({x:g} {y:g}) rotate({turn})"/>'
    )


def _moved(markup: str, x: float, y: float) -> str:
    return f'<g transform="translate({x:g} {y:g})">{markup}</g>'


def _legend(kernels: list[int], left_out: bool) -> tuple[str, float]:
    """The key to the drawing, and its width."""
    swatches = [
        *({"fill": kernel_colour(k), "note": f"{k}×{k}"} for k in kernels),
        {"style": "max", "note": "filters it could have"},
        {"style": "max unsure", "note": "undecided"},
        {"style": "fixed", "note": "output convolution, not searched"},
        *([{"style": "fixed out", "note": "pale: left out since"}] if left_out else []),
    ]
    parts, x = [], float(_MARGIN)
    for swatch in swatches:
        note = swatch.pop("note")
        parts.append(_rect(x, 0, 14, 11, **swatch))
        parts.append(_text(x + 19, 9.5, note, ""))
        x += 41 + 6.2 * len(note)  # the width of a letter, generously
    note = (
        "Filling and n/m: filters kept. Bar and p: probability of this slice. H: entropy, 0 decided, 1 open."
    )
    parts.append(_text(_MARGIN, 30, note, "soft"))
    return "".join(parts), x
