"""What `skdn eval` prints: measurements as tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sk_search.benchmark import Evaluation, Measured


def describe(evaluation: Evaluation) -> str:
    """One model: a row a group, and the time."""
    from sk_search.benchmark import ENSEMBLE, NOISY, SINGLE

    columns = [column for column in (NOISY, SINGLE, ENSEMBLE) if evaluation.score(column)]
    groups = evaluation.groups()
    width = max(len(group) for group in (*groups, "group"))

    def row(name: str, pictures: int, group: str | None) -> str:
        scores = (evaluation.score(column, group) for column in columns)
        cells = (f"{score.psnr_db:10.4f} / {score.ssim:.5f}" for score in scores if score)
        return f"{name:<{width}}{pictures:>7}" + "".join(cells)

    sources = evaluation.noise_sources()
    level = " and ".join(f"{source} ({count})" for source, count in sources.items()) or "none, a blind model"
    lines = [f"{evaluation.model} on {evaluation.provider}: {_title(evaluation)}; noise level: {level}"]
    if columns:
        lines.append(f"{'group':<{width}}{'n':>7}" + "".join(f"{column:>20}" for column in columns))
        for group in groups if len(groups) > 1 else []:
            lines.append(row(group, sum(r.group == group for r in evaluation.results), group))
        lines.append(row("mean", len(evaluation.results), None))
    times = ((c, evaluation.s_per_mp(c)) for c in (SINGLE, ENSEMBLE))
    lines.append(
        ", ".join(f"{column} {seconds:.3f} s/MP" for column, seconds in times if seconds is not None)
    )
    return "\n".join(lines)


def describe_bench(measured: Measured) -> str:
    """Several methods, a column each: PSNR and SSIM, the largest bias, the time."""
    columns, groups = measured.columns(), measured.groups()
    means = {group: measured.means(group) for group in groups}
    first = max(len(group) for group in groups)
    widths = {column: max(16, len(column) + 2) for column in columns}

    def row(name: str, cells: dict[str, str]) -> str:
        return f"{name:<{first}}" + "".join(f"{cells.get(c, ''):>{widths[c]}}" for c in columns)

    lines = [
        f"{_title(measured)}: PSNR in dB / SSIM on the mosaic, the noise level given to all",
        row("", {column: column for column in columns}),
    ]
    for group, scores in means.items():
        lines.append(row(group, {c: f"{s['psnr_db']:.2f} / {s['ssim']:.4f}" for c, s in scores.items()}))
    lines.append("\nlargest error of a colour plane's mean, % of that mean")
    for group, scores in means.items():
        lines.append(row(group, {c: f"{100 * s['bias']:.2f}" for c, s in scores.items()}))
    times = {column: measured.s_per_mp(column) for column in columns}
    lines.append(
        "\n" + row("s/MP", {c: f"{seconds:.3f}" for c, seconds in times.items() if seconds is not None})
    )
    return "\n".join(lines)


def describe_charts(measured: Measured) -> str:
    """A table a method: what it gains on every content at every level, and its bias; the worst at the end."""
    from sk_search.benchmark import NOISY

    methods = [column for column in measured.columns() if column != NOISY]
    groups = measured.groups()
    levels = list(dict.fromkeys(result.noise for result in measured.results))
    at = {(result.group, result.noise): result for result in measured.results}
    first = max(len(group) for group in groups)

    def heading(name: str, values: list[float]) -> str:
        return f"{name:<{first}}" + "".join(f"{value:>14.2g}" for value in values)

    lines = [f"{_title(measured)}: gain over the noisy picture in dB (largest error of a plane's mean, %)"]
    worst = []
    for method in methods:
        lines += [
            "",
            method,
            heading("shot", [n.shot for n in levels]),
            heading("read", [n.read for n in levels]),
        ]
        for group in groups:
            results = [at[group, noise] for noise in levels]
            cells = (f"{r.gain_db(method):+.2f} ({100 * r.scores[method].bias:.2f})" for r in results)
            lines.append(f"{group:<{first}}" + "".join(f"{cell:>14}" for cell in cells))
        least = min(measured.results, key=lambda r: r.gain_db(method))
        biased = max(measured.results, key=lambda r: r.scores[method].bias)
        worst.append(
            f"{method}: worst gain {least.gain_db(method):+.2f} dB ({least.name}); "
            f"largest bias {100 * biased.scores[method].bias:.2f} % ({biased.name})"
        )
    return "\n".join([*lines, "", *worst])


def _title(measured: Measured) -> str:
    megapixels = sum(result.megapixels for result in measured.results)
    return f"{measured.title}, {len(measured.results)} pictures, {megapixels:.1f} MP"
