"""The page that a report is printed on: its frame, its style, and the few shapes its sections are made of.

Light on paper and by default, dark where the reader's system is; no script, nothing fetched.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable
from html import escape

import cv2
import numpy as np
from numpy.typing import NDArray

_STYLE = """
:root{color-scheme:light dark;--ink:#22303c;--soft:#5d6b78;--paper:#fff;--card:#f5f7f9;--line:#dde3e8;
--good:#1f8a55;--bad:#c8352c}
@media screen and (prefers-color-scheme:dark){:root{--ink:#dfe6ec;--soft:#93a1ae;--paper:#14191e;
--card:#1c2329;--line:#323c45;--good:#4cc38a;--bad:#ff7168}}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);
font:15px/1.5 system-ui,-apple-system,'Segoe UI','DejaVu Sans',sans-serif}
main{max-width:1160px;margin:0 auto;padding:32px 28px 64px}
h1{font-size:27px;line-height:1.2;margin:0 0 4px}
h2{font-size:18px;margin:40px 0 10px;padding-bottom:5px;border-bottom:1px solid var(--line)}
p{margin:4px 0 12px;max-width:78ch}
.soft,figcaption,th{color:var(--soft)}
svg{max-width:100%;height:auto}
svg text{font-family:inherit}
.tiles{display:grid;grid-template-columns:repeat(4,1fr);gap:12px;margin:22px 0 0}
.tile{background:var(--card);border-radius:8px;padding:11px 14px}
.tile b{display:block;font-size:23px;line-height:1.25;font-weight:600}
.tile span{display:block;color:var(--soft);font-size:13px}
.wide{overflow-x:auto}
.wide>svg{display:block;margin:0 auto}
.curves{display:grid;grid-template-columns:1fr 1fr;gap:14px 18px}
.curves>.full{grid-column:1/-1}
.curves svg{width:100%}
.strips{display:grid;grid-template-columns:repeat(auto-fill,minmax(210px,1fr));gap:14px}
.crops{display:grid;grid-template-columns:repeat(auto-fit,minmax(200px,1fr));gap:14px}
figure{margin:0;break-inside:avoid}
figcaption{font-size:13px;margin-top:3px}
.strips svg{display:block;width:100%;height:52px;background:var(--card)}
.strips .width{fill:none;stroke:var(--ink);stroke-width:2;vector-effect:non-scaling-stroke}
.uses{display:flex;gap:2px;margin-top:3px;font-size:11px;line-height:15px;color:var(--soft)}
.uses i{flex:0 0 0;min-width:2px;overflow:hidden;text-align:center;font-style:normal;border-top:4px solid}
.strips polygon{stroke:var(--paper);stroke-width:1;vector-effect:non-scaling-stroke}
.crops img{display:block;width:100%;image-rendering:pixelated;border-radius:4px}
.key i{display:inline-block;width:14px;height:10px;margin:0 5px 0 14px}
table{border-collapse:collapse;font-size:14px;font-variant-numeric:tabular-nums}
th,td{text-align:left;font-weight:400;padding:3px 22px 3px 0;border-bottom:1px solid var(--line);
vertical-align:top;overflow-wrap:anywhere}
th{white-space:nowrap}
.numbers{font-size:13px}.numbers th,.numbers td{white-space:nowrap;padding-right:18px}
.number{text-align:right}
.columns{display:grid;grid-template-columns:1fr 1fr;gap:8px 44px;align-items:start}
.good{color:var(--good)}.bad{color:var(--bad);font-weight:600}
details{margin-top:16px}summary{cursor:pointer;color:var(--soft)}
@media (max-width:760px){.curves,.columns{grid-template-columns:1fr}
.tiles,.crops{grid-template-columns:1fr 1fr}
.wide>svg{max-width:none}}
@media print{main{max-width:none;padding:0}.tile{border:1px solid var(--line)}h2{break-after:avoid}
.wide,.curves>*{break-inside:avoid}*{print-color-adjust:exact;-webkit-print-color-adjust:exact}}
"""


def page(title: str, body: str) -> str:
    """A whole HTML document around `body`."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head>\n<body><main>\n{body}\n</main></body></html>\n"
    )


def section(title: str, *parts: str) -> str:
    """A heading with what belongs to it; nothing where every part is empty."""
    return f"<section><h2>{escape(title)}</h2>\n{''.join(parts)}</section>" if any(parts) else ""


def paragraph(text: str) -> str:
    return f'<p class="soft">{escape(text)}</p>'


def tile(value: str, label: str) -> str:
    """One number that matters, large."""
    return f'<div class="tile"><b>{escape(value)}</b><span>{escape(label)}</span></div>'


def table(rows: Iterable[tuple[str, str]]) -> str:
    """Two columns: what, and how much; both are escaped."""
    cells = "".join(f"<tr><th>{escape(name)}</th><td>{escape(value)}</td></tr>" for name, value in rows)
    return f"<table>{cells}</table>" if cells else ""


def figure(picture: str, caption: str) -> str:
    """`picture` is markup, the caption plain text."""
    return f"<figure>{picture}<figcaption>{escape(caption)}</figcaption></figure>"


def image(pixels: NDArray[np.uint8], label: str) -> str:
    """RGB [h,w,3] or grey [h,w], inline as PNG."""
    ordered = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR) if pixels.ndim == 3 else pixels
    _, png = cv2.imencode(".png", ordered)
    data = base64.b64encode(png.tobytes()).decode()
    return f'<img src="data:image/png;base64,{data}" alt="{escape(label)}">'
