"""`skdn profile`: the latency of a model on the provider that really runs."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from sk_deploy.profile import Profile
    from sk_search.lut import LatencyTable


def parse_size(ctx: click.Context, parameter: click.Parameter, value: str | None) -> tuple[int, int] | None:
    """`WxH` -> sensor pixels."""
    if value is None:
        return None
    match = re.fullmatch(r"(\d+)[x×](\d+)", value)
    size = (int(match[1]), int(match[2])) if match else (0, 0)
    if min(size) < 2:
        raise click.BadParameter(f"{value!r} is not WxH in sensor pixels, e.g. 4000x3000")
    return size


@click.command(name="profile")
@click.argument("model", metavar="[MODEL]", required=False)
@click.option("--ops", is_flag=True, help="Also where the network's time goes, by operator and by node.")
@click.option(
    "--compare",
    nargs=2,
    metavar="A B",
    help="Time two models in turn, in place of one: the ratio of their times, and its spread.",
)
@click.option(
    "--plot",
    type=click.Path(path_type=Path),
    metavar="FILE.svg",
    help="Also draw the distribution of latencies.",
)
@click.option(
    "--lut",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Measure the latency table of a search space into FILE (JSON), in place of a model.",
)
@click.option(
    "--preset", metavar="NAME", help="With --lut: the preset that will be searched.  [default: small]"
)
@click.option("--arch", metavar="NAME", help="With --lut: the network that will be searched in.")
@click.option("--force", is_flag=True, help="With --lut or --plot: overwrite FILE.")
@click.option(
    "--size",
    default="1024x1024",
    show_default=True,
    callback=parse_size,
    metavar="WxH",
    help="Mosaic to denoise, in sensor pixels; with --lut in one tile.",
)
@click.option(
    "--provider", type=click.Choice(["auto", "cuda", "tensorrt", "cpu"]), default="auto", show_default=True
)
@click.option(
    "--tile",
    type=click.IntRange(min=2),
    metavar="PX",
    help="Tiles of at most PX × PX sensor pixels.  [default: by the memory at hand]",
)
@click.option("--ensemble", is_flag=True, help="Time the self-ensemble of eight passes.")
@click.option(
    "--runs",
    type=click.IntRange(min=1),
    help="Timed runs, at least.  [default: 50, and 3 s; with --lut 5 of each graph in a pass]",
)
@click.option("--json", "as_json", is_flag=True, help="Everything, all samples included, as one JSON object.")
@click.pass_context
def command(
    ctx: click.Context,
    model: str | None,
    ops: bool,
    compare: tuple[str, str] | None,
    plot: Path | None,
    lut: Path | None,
    preset: str | None,
    arch: str | None,
    force: bool,
    size: tuple[int, int],
    provider: str,
    tile: int | None,
    ensemble: bool,
    runs: int | None,
    as_json: bool,
) -> None:
    """Time MODEL, a shipped model's name or an ONNX file, on the provider that really runs.

    With --compare A B, time two models in turn. With --lut, time every block that `skdn search --target-ms`
    may choose: minutes, on a machine that does nothing else. None of it needs PyTorch.
    """
    if [model, compare, lut].count(None) != 2:
        raise click.UsageError(
            "give a MODEL to time, or --compare A B for two, or --lut FILE to measure a search space"
        )
    given = {p for p in ctx.params if ctx.get_parameter_source(p) is click.core.ParameterSource.COMMANDLINE}
    misplaced = given & ({"preset", "arch"} if lut is None else {"tile", "ensemble", "plot", "ops"})
    misplaced |= given & ({"ops"} if compare else set())
    misplaced |= given & ({"force"} if lut is None and plot is None else set())
    if misplaced:
        names = ", ".join(f"--{name}" for name in sorted(misplaced))
        place = "--compare" if compare else "MODEL" if model else "--lut"
        raise click.UsageError(f"{names} cannot be combined with {place}")
    if plot is not None and plot.suffix.lower() != ".svg":
        raise click.UsageError(f"--plot {plot}: expected a name that ends in .svg, which any browser opens")

    from .progress import progress_bar

    if lut is not None:
        with progress_bar(1) as advance:
            table = _measure_table(lut, preset or "small", arch, force, size, provider, runs or 5, advance)
        click.echo(json.dumps(table.to_dict()) if as_json else describe_table(table, lut))
        return

    if plot is not None:
        from sk_deploy.whole import check_place

        check_place(plot, force=force)
    with progress_bar(1) as advance:
        text, facts, measured = (
            _compare(compare, provider, tile, size, ensemble, runs or 50, advance)
            if compare
            else _profile(model or "", provider, tile, size, ensemble, runs or 50, ops, advance)
        )
    if plot is not None:
        from sk_deploy.latency_plot import write_plot

        write_plot(measured, plot)
        text += f"\nwritten: {plot}"
    click.echo(json.dumps(facts) if as_json else text)


def _profile(
    model: str,
    provider: str,
    tile: int | None,
    size: tuple[int, int],
    ensemble: bool,
    runs: int,
    ops: bool,
    progress: Callable[[str, float], None],
) -> tuple[str, dict[str, Any], dict[str, Profile]]:
    """Text, facts for JSON, and what a plot is made of."""
    from sk_deploy.denoiser import Denoiser
    from sk_deploy.operators import operator_table
    from sk_deploy.peak import matmul_peak_gmacs_per_s
    from sk_deploy.profile import profile

    from .profile_text import describe, describe_operators

    denoiser = Denoiser.from_file(model, provider, tile)
    measured = profile(
        denoiser, *size, ensemble=ensemble, runs=runs, progress=lambda share: progress("profiling", share)
    )
    peak = matmul_peak_gmacs_per_s(measured.provider, measured.threads)
    text, facts = describe(measured, peak), measured.facts() | {"matmul_peak_gmacs_per_s": peak}
    if ops:
        table = operator_table(
            model, measured.provider, *size, tile, ensemble, lambda share: progress("tracing", share)
        )
        text += "\n\n" + describe_operators(table, measured.provider)
        facts["operators"] = table.facts()
    return text, facts, {model: measured}


def _compare(
    models: tuple[str, str],
    provider: str,
    tile: int | None,
    size: tuple[int, int],
    ensemble: bool,
    runs: int,
    progress: Callable[[str, float], None],
) -> tuple[str, dict[str, Any], dict[str, Profile]]:
    """The same of two models."""
    from sk_deploy.denoiser import Denoiser
    from sk_deploy.paired import compare
    from sk_deploy.peak import matmul_peak_gmacs_per_s

    from .profile_text import describe_comparison

    first = Denoiser.from_file(models[0], provider, tile)
    second = Denoiser.from_file(models[1], first.provider, tile)  # where `auto` fell back, it has said so
    compared = compare(
        first,
        second,
        *size,
        ensemble=ensemble,
        runs=runs,
        progress=lambda share: progress("comparing", share),
    )
    peak = matmul_peak_gmacs_per_s(compared.first.provider, compared.first.threads)
    plotted = {f"A: {models[0]}": compared.first, f"B: {models[1]}": compared.second}
    facts = compared.facts() | {"matmul_peak_gmacs_per_s": peak}
    return describe_comparison(compared, models, peak), facts, plotted


def _measure_table(
    path: Path,
    preset: str,
    arch: str | None,
    force: bool,
    size: tuple[int, int],
    provider: str,
    runs: int,
    progress: Callable[[str, float], None],
) -> LatencyTable:
    """Measure and write the table of a preset's search space; the checks come before the minutes."""
    from dataclasses import replace

    from sk_deploy.errors import ConfigError
    from sk_deploy.whole import check_place
    from sk_search.lut_measure import measure_table
    from sk_search.presets import PRESETS

    if preset not in PRESETS:
        raise ConfigError(f"preset {preset!r} is not one of {', '.join(PRESETS)}")
    check_place(path, force=force)
    net = PRESETS[preset]().net
    table = measure_table(replace(net, arch=arch or net.arch), size, provider, runs, progress)
    table.write(path)
    return table


def describe_table(table: LatencyTable, path: Path) -> str:
    """What was measured, and how far it can be trusted."""
    facts, calibration = table.facts, table.facts["calibration"]
    width_px, height_px = table.size_px
    least, most = table.range_ms()
    return "\n".join(
        [
            f"{table.net.arch} on {facts['provider']}: {facts['device']}, {facts['threads']} threads",
            f"{width_px}×{height_px} px: networks of this space take {least:.1f} to {most:.1f} ms, "
            f"{table.skeleton_ms:.1f} ms of it outside their blocks",
            f"{sum(ms.size for ms in table.blocks.values())} blocks, timed in {facts['passes']} passes and "
            f"{facts['seconds']:.0f} s; {100 * facts['disagreement']:.1f} % from pass to pass",
            f"{len(calibration['networks_ms'])} whole networks, each predicted from the others: off by "
            f"{100 * calibration['left_out_error_mean']:.1f} % on average, "
            f"{100 * calibration['left_out_error_worst']:.1f} % at most",
            f"next: skdn search --target-ms {(least + most) / 2:.0f} --lut {path}",
        ]
    )
