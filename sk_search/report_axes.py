"""How the plots of a report look: matplotlib's style, the colours, and the SVG that a page takes in.

Ink is `currentColor`, so plots follow the page between light and dark. The colours differ in lightness as
well as in hue, for readers and printers that see few hues; what must not be confused differs in its mark too.
"""

from __future__ import annotations

import io
import re
from typing import Any

import matplotlib
from matplotlib.figure import Figure

INK = "#010203"
"""Stands for currentColor until the SVG is written."""

BLUE, ORANGE, MAGENTA = "#2f7fcc", "#d98a14", "#c0488a"

_INKED = ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color", "grid.color")
_STYLE = {
    **dict.fromkeys(_INKED, INK),
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


def styled() -> Any:
    """A context in which figures are made and written."""
    return matplotlib.rc_context(_STYLE)


def svg_text(figure: Figure) -> str:
    """SVG text without prologue or date, its ink turned into currentColor."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :].replace(INK, "currentColor")
    return re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
