"""`skdn profile`: the latency of a model on the provider that really runs."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from sk_deploy.profile import Latency, Profile
    from sk_search.lut import LatencyTable


def parse_size(ctx: click.Context, parameter: click.Parameter, value: str) -> tuple[int, int]:
    """`WxH` -> sensor pixels."""
    match = re.fullmatch(r"(\d+)[x×](\d+)", value)
    size = (int(match[1]), int(match[2])) if match else (0, 0)
    if min(size) < 2:
        raise click.BadParameter(f"{value!r} is not WxH in sensor pixels, e.g. 4000x3000")
    return size


@click.command(name="profile")
@click.argument("model", metavar="[MODEL]", required=False)
@click.option(
    "--lut",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Measure the latency table of a search space into FILE (JSON), in place of a model.",
)
@click.option(
    "--preset", metavar="NAME", help="With --lut: the preset that will be searched.  [default: compact]"
)
@click.option("--arch", metavar="NAME", help="With --lut: the network that will be searched in.")
@click.option("--force", is_flag=True, help="With --lut: overwrite FILE.")
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
    help="Longest edge of a tile in sensor pixels.  [default: 1024]",
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

    With --lut, time every block that `skdn search --target-ms` may choose: minutes, on a machine that does
    nothing else. Neither needs PyTorch.
    """
    if (model is None) == (lut is None):
        raise click.UsageError("give a MODEL to time, or --lut FILE to measure a search space")
    given = {p for p in ctx.params if ctx.get_parameter_source(p) is click.core.ParameterSource.COMMANDLINE}
    if misplaced := given & ({"preset", "arch", "force"} if model else {"tile", "ensemble"}):
        names = ", ".join(f"--{name}" for name in sorted(misplaced))
        raise click.UsageError(f"{names} cannot be combined with {'MODEL' if model else '--lut'}")

    from .progress import progress_bar

    if lut is not None:
        with progress_bar(1) as advance:
            table = _measure_table(lut, preset or "compact", arch, force, size, provider, runs or 5, advance)
        click.echo(json.dumps(table.to_dict()) if as_json else describe_table(table, lut))
        return

    from sk_deploy.denoiser import Denoiser
    from sk_deploy.profile import profile

    denoiser = Denoiser.from_file(model, provider, tile)
    with progress_bar(1) as advance:
        measured = profile(
            denoiser,
            *size,
            ensemble=ensemble,
            runs=runs or 50,
            progress=lambda share: advance("profiling", share),
        )
    click.echo(json.dumps(measured.facts()) if as_json else describe(measured))


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
    from sk_search.lut_measure import measure_table
    from sk_search.presets import PRESETS

    if preset not in PRESETS:
        raise ConfigError(f"preset {preset!r} is not one of {', '.join(PRESETS)}")
    if path.exists() and not force:
        raise ConfigError(f"{path} exists: --force overwrites it")
    if not path.parent.is_dir():
        raise ConfigError(f"{path.parent} is not a folder: make it, or choose another place for the table")
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


def describe(measured: Profile) -> str:
    """The profile as a small table."""

    def row(name: str, latency: Latency) -> str:
        figures = (latency.p50_ms, latency.p90_ms, latency.p99_ms, latency.min_ms)
        return f"{name:<10}" + "".join(f"{figure:>10.2f}" for figure in figures)

    megapixels = measured.width_px * measured.height_px / 1e6
    memory = (
        "unknown" if measured.peak_host_memory_mib is None else f"{measured.peak_host_memory_mib:.0f} MiB"
    )
    lines = [
        f"{measured.model} on {measured.provider}: {measured.device}, {measured.threads} threads",
        f"{measured.width_px}×{measured.height_px} px ({megapixels:.2f} MP) in tiles of at most "
        f"{measured.tile_px} px{', self-ensemble' * measured.ensemble}",
        f"{len(measured.total.samples_ms)} runs after {measured.warmups} warm-ups",
        f"{'ms':<10}" + "".join(f"{head:>10}" for head in ("p50", "p90", "p99", "min")),
        row("end to end", measured.total),
        row("network", measured.network),
        f"{measured.mp_per_s:.2f} MP/s, {measured.gmacs_per_s:.1f} GMAC/s, peak host memory {memory}, "
        f"model loaded in {1e3 * measured.load_s:.0f} ms",
    ]
    return "\n".join(lines)
