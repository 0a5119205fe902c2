"""`run/report.html`: what a search found, how it got there, and whether it can be trusted, on one page.

The page is self-contained and can be written at any time: what the run has not got yet is left out.
"""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sk_deploy.genotype import Gene, genes
from sk_deploy.whole import whole

from .record import RunRecord, StageRecord, duration, is_number, read_record
from .report_architecture import draw_architecture, kernel_colour
from .report_curves import draw_curves
from .report_evolution import draw_evolution, used_shares
from .report_page import figure, image, page, paragraph, section, table, tile

Crops = list[tuple[str, NDArray[np.uint8]]]
"""Label and picture, RGB [h,w,3] or grey [h,w], in the order they are shown."""


def write_report(run: Path, crops: Crops | None = None) -> Path:
    """Write run/report.html and return its path. Raises ConfigError where `run` is not a run."""
    record = read_record(run)
    found = genes(record.genotype) if record.genotype else []
    name = run.resolve().name
    sections = [
        _heading(name, record),
        _tiles(record, found),
        _before_after(crops or []),
        _architecture(record, found),
        _curves(record),
        _evolution(record, found),
        _proof(record.parity),
        _facts(record),
    ]
    path = run / "report.html"
    text = page(f"{name} – skdn report", "\n".join(filter(None, sections)))
    with whole(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return path


def _heading(name: str, record: RunRecord) -> str:
    structure, net = record.settings.get("structure", {}), record.settings.get("net", {})
    facts = [
        f"{structure['type']} superkernels, {structure['mode']} mode" if "type" in structure else "",
        net.get("arch", ""),
        f"preset {record.settings['preset']}" if "preset" in record.settings else "",
    ]
    return f"<h1>{escape(name)}</h1>{paragraph(' · '.join(filter(None, facts)))}"


def _tiles(record: RunRecord, found: list[Gene]) -> str:
    """The numbers to look at first: quality of the last stage that has any, cost, certainty, time."""
    tiles = []
    stage = next((s for s in reversed(record.stages) if record.stages[s].best), None)
    if stage:
        best = record.stages[stage].best or {}
        of = {
            "search": "supernet, argmax",
            "finetune": "fine-tuned",
            "ensembled": "taught by its self-ensemble",
        }[stage]
        tiles.append(tile(f"{best['psnr_db']:.2f} dB", f"best validation PSNR, {of}"))
        if is_number(best.get("psnr_ensemble_db")):
            tiles.append(tile(f"{best['psnr_ensemble_db']:.2f} dB", "with self-ensemble"))
        if is_number(best.get("psnr_noisy_db")):
            tiles.append(tile(f"{best['psnr_db'] - best['psnr_noisy_db']:+.2f} dB", "over the noisy input"))
        if is_number(best.get("ssim")):
            tiles.append(tile(f"{best['ssim']:.4f}", "SSIM"))
    if record.genotype:
        tiles.append(tile(f"{record.genotype['macs_per_mp'] / 1e9:.2f} GMAC", "per raw megapixel"))
        tiles.append(tile(f"{record.genotype['parameters'] / 1e3:,.0f} k", "parameters"))
        decided = sum(not gene.undecided for gene in found)
        tiles.append(tile(f"{decided} of {len(found)}", "superkernels decided"))
    seconds = sum(stage.seconds or 0 for stage in record.stages.values())
    if seconds:
        tiles.append(tile(duration(seconds), "of training"))
    return f'<div class="tiles">{"".join(tiles)}</div>' if tiles else ""


def _before_after(crops: Crops) -> str:
    pictures = "".join(figure(image(pixels, label), label) for label, pixels in crops)
    return section("Before and after", f'<div class="crops">{pictures}</div>' if pictures else "")


def _architecture(record: RunRecord, found: list[Gene]) -> str:
    if not record.genotype:
        return ""
    undecided = [gene.name for gene in found if gene.undecided]
    warning = f"Undecided when the search ended: {', '.join(undecided)}." if undecided else ""
    return section(
        "What it found",
        f'<div class="wide">{draw_architecture(record.genotype)}</div>',
        paragraph(warning) if warning else "",
    )


def _curves(record: RunRecord) -> str:
    wide, half = draw_curves(record)
    curves = "".join(
        [*(f'<div class="full">{svg}</div>' for svg in wide), *(f"<div>{svg}</div>" for svg in half)]
    )
    return section("How it learnt", f'<div class="curves">{curves}</div>' if curves else "")


def _evolution(record: RunRecord, found: list[Gene]) -> str:
    strips = draw_evolution(record, found)
    if not strips:
        return ""
    shares = [used_shares(record, gene) for gene in found]
    pictures = "".join(
        figure(
            svg + _uses(gene, share),
            f"{gene.name} → {gene.kernel}×{gene.kernel}, {len(gene.filters)}/{gene.max_filters}",
        )
        for svg, gene, share in zip(strips, found, shares, strict=True)
    )
    kernels = sorted({k for gene in found for k in gene.kernels})
    key = "".join(f'<i style="background:{kernel_colour(k)}"></i>{k}×{k}' for k in kernels)
    return section(
        "How it decided",
        '<p class="soft key">Probability of each kernel size over the search, first step to last:'
        f"{key}. The line is the expected number of filters, full height being the most it could keep."
        f"{' Below, how many of the samples used each size.' if any(shares) else ''}</p>",
        f'<div class="strips">{pictures}</div>',
    )


def _uses(gene: Gene, shares: list[float] | None) -> str:
    """A bar of how often each kernel size was sampled: a size that was hardly tried was not fairly judged."""
    if shares is None:
        return ""
    parts = ""
    for k, share in zip(gene.kernels, shares, strict=True):
        number = f"{share:.0%}" if share > 0.12 else ""  # there is no room for it in a shorter piece
        parts += f'<i style="flex-grow:{share:.4f};border-color:{kernel_colour(k)}">{number}</i>'
    hint = ", ".join(f"{k}×{k} {share:.1%}" for k, share in zip(gene.kernels, shares, strict=True))
    return f'<div class="uses" title="samples that used {hint}">{parts}</div>'


def _proof(parity: dict[str, Any] | None) -> str:
    """The exactness gate: every network on the way from the supernet to the file computes the same."""
    if not parity:
        return ""
    limits = parity.get("limits", {})
    rows = []
    for name, limit in limits.items():
        error = parity.get(name)
        passed = is_number(error) and error <= limit
        verdict = '<td class="good">pass</td>' if passed else '<td class="bad">FAIL</td>'
        value = f"{error:.1e}" if is_number(error) else f"{error}"
        cells = f"<th>{escape(name)}</th><td>{escape(value)}</td><td>≤ {limit:.0e}</td>{verdict}"
        rows.append(f"<tr>{cells}</tr>")
    return section(
        "Exactness",
        paragraph("The largest difference between networks that must be equal, and its limit."),
        f"<table>{''.join(rows)}</table>",
    )


def _facts(record: RunRecord) -> str:
    header = record.header
    origin = [
        ("seed", str(header.get("seed", "–"))),
        ("commit", str(header.get("commit") or "not from a checkout")),
        *((name, str(version)) for name, version in header.get("versions", {}).items()),
    ]
    stages = [(name, _stage_line(stage)) for name, stage in record.stages.items() if stage.rows]
    settings = table(_flattened(record.settings))
    return section(
        "How to make it again",
        f'<div class="columns"><div>{table(origin)}</div><div>{table(stages)}</div></div>',
        f"<details><summary>The whole configuration</summary>{settings}</details>" if settings else "",
    )


def _stage_line(stage: StageRecord) -> str:
    line = f"{stage.step:,} of {stage.steps:,} steps"
    if stage.seconds:
        line += f", {duration(stage.seconds)}"
    if stage.best:
        line += f"; best {stage.best['psnr_db']:.2f} dB at step {stage.best['step']:,}"
    return line


def _flattened(settings: dict[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    for name, value in settings.items():
        if isinstance(value, dict):
            rows += _flattened(value, f"{prefix}{name}.")
        else:
            shown = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
            rows.append((f"{prefix}{name}", shown))
    return rows
