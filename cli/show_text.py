"""What `skdn show` prints of one run or model: its facts a line each, and its superkernels as a table."""

from __future__ import annotations

import sys
from typing import Any

from rich.console import Console
from rich.table import Table

from sk_deploy.genotype import CHANGES


def print_facts(facts: dict[str, Any]) -> None:
    """On stdout, as wide as its terminal, else 120 columns."""
    console = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 120)
    console.print(f"{facts['name']}", style="bold", markup=False)
    for label, text in _lines(facts):
        console.print(f"  {label:<14}{text}", markup=False)
    if facts["superkernels"]:
        console.print()
        console.print(_table(facts["superkernels"]))
    undecided = sum(entry["undecided"] for entry in facts["superkernels"])
    if undecided:
        console.print(
            f"\n{undecided} of {len(facts['superkernels'])} superkernels are undecided: another slice would "
            "do about as well, or a longer search would tell"
        )
    console.print(f"\nnext: {facts['next']}", markup=False)


def _lines(facts: dict[str, Any]) -> list[tuple[str, str]]:
    """What a reader wants first, a label and a text each; unknown facts are left out."""
    method = [facts["arch"], facts["type"] and f"{facts['type']} superkernels", facts["mode"]]
    rows = [("network", ", ".join(filter(None, method)))]
    if facts["macs_per_mp"] is not None:
        cost = f"{facts['macs_per_mp'] / 1e9:.2f} GMAC per raw megapixel, {facts['parameters']:,} parameters"
        rows.append(("cost", cost))
    if facts["kind"] == "model":
        blind = facts["conditioning"] == "none"
        conditioning = "none (blind)" if blind else f"{facts['conditioning']}: shot and read variance"
        tiles = f"multiples of {facts['multiple']}, halo {facts['halo']} packed pixels"
        rows += [(change.replace("_", " "), ", ".join(facts[change])) for change in CHANGES]
        rows += [("noise input", conditioning), ("tiles", tiles)]
        rows += [("licence", facts["licence"]), ("trained on", facts["training_data"])]
        return [row for row in rows if row[1]]
    stages = facts["stages"]
    rows.append(("search", _stage_line(stages["search"])))
    rows.append(("distilled", "yes" if stages["distilled"] else "not yet"))
    rows.append(("fine-tuning", _stage_line(stages["finetune"])))
    if stages["ensembled"]["step"]:
        rows.append(("self-ensemble", _stage_line(stages["ensembled"])))
    model = stages["exported"]
    rows.append(("exported", f"{model}, proven equal" if model else "not yet"))
    return rows


def _stage_line(stage: dict[str, Any]) -> str:
    if not stage["step"]:
        return "not yet"
    steps = f"{stage['step']:,} of {stage['steps']:,} steps"
    line = f"finished, {steps}" if stage["finished"] else f"under way or interrupted at {steps}"
    best = stage["best"]
    if best:
        line += f"; best {best['psnr_db']:.2f} dB"
        if best.get("psnr_ensemble_db") is not None:
            line += f", {best['psnr_ensemble_db']:.2f} dB with self-ensemble"
        if best.get("psnr_noisy_db") is not None:
            line += f" (noisy {best['psnr_noisy_db']:.2f} dB)"
    return line


def _table(superkernels: list[dict[str, Any]]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for heading, align in (
        ("superkernel", "left"),
        ("kernel", "left"),
        ("filters", "right"),
        ("", "left"),
        ("probability", "right"),
        ("entropy", "right"),
        ("", "left"),
    ):
        table.add_column(heading, justify=align, no_wrap=True)
    for entry in superkernels:
        full = round(8 * entry["filters"] / entry["max_filters"])
        table.add_row(
            entry["name"],
            f"{entry['kernel']}×{entry['kernel']}",
            f"{entry['filters']}/{entry['max_filters']}",
            "█" * full + "░" * (8 - full),
            f"{entry['probability']:.2f}",
            f"{entry['entropy']:.2f}",
            "undecided" if entry["undecided"] else "",
            style="yellow" if entry["undecided"] else None,
        )
    return table
