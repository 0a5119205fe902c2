"""The page that compares several runs: Pareto plots, gains over baselines, and the numbers behind them."""

from __future__ import annotations

from html import escape
from pathlib import Path

from sk_deploy.whole import check_place, whole

from .compare import COSTS, Comparison
from .compare_table import Table, caption, group_table, run_table, worth_grouping
from .report_page import page, paragraph, section
from .report_pareto import draw_pareto


def write_comparison(comparison: Comparison, path: Path, force: bool = False) -> None:
    """Write the page to `path`. Raises ConfigError where a file is already, unless `force`."""
    check_place(path, force=force)
    first, *others = (comparison.cost, *(cost for cost in COSTS if cost != comparison.cost))
    large = draw_pareto(comparison, first)
    others = [cost for cost in others if any(getattr(group, cost) for group in comparison.groups)]
    wide = len(others) % 2 == 1
    small = [draw_pareto(comparison, cost, 10.6 if wide else 5.2, 3.4) for cost in others]
    full = ' class="full"' if wide else ""
    groups = _html(group_table(comparison)) if worth_grouping(comparison) else ""
    sections = [
        f"<h1>Runs compared</h1>{paragraph(caption(comparison))}",
        section(
            "Cost and quality",
            f'<div class="curves"><div class="full">{large}</div>'
            f"{''.join(f'<div{full}>{svg}</div>' for svg in small if svg)}</div>",
            paragraph(
                "Marks are means over seeds, bars one standard deviation. Self-ensemble runs the network "
                "eight times; its marks stand above the cost of one run."
            ),
        )
        if large
        else "",
        section("Groups", paragraph(_GROUPS), f'<div class="wide">{groups}</div>') if groups else "",
        section("Runs", f'<div class="wide">{_html(run_table(comparison))}</div>'),
        section("To bear in mind", *map(paragraph, comparison.notes)),
    ]
    with whole(path) as temporary:
        temporary.write_text(
            page("Runs compared – skdn", "\n".join(filter(None, sections))), encoding="utf-8"
        )


_GROUPS = (
    "Runs that differ only in the seed, mean ± standard deviation. A gain is the difference to a baseline "
    "that costs the same but was not searched, run by run of one seed where both have the same seeds."
)


def _html(table: Table) -> str:
    heads = "".join(f"<th{_side(table, i)}>{escape(text)}</th>" for i, text in enumerate(table.headings))
    rows = "".join(
        f"<tr>{''.join(f'<td{_side(table, i)}>{escape(text)}</td>' for i, text in enumerate(row))}</tr>"
        for row in table.rows
    )
    return f'<table class="numbers"><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table>'


def _side(table: Table, column: int) -> str:
    return "" if column < table.left else ' class="number"'
