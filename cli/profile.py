"""`skdn profile`: the latency of a model on the provider that really runs."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from sk_deploy.profile import Latency, Profile


def parse_size(ctx: click.Context, parameter: click.Parameter, value: str) -> tuple[int, int]:
    """`WxH` -> sensor pixels."""
    match = re.fullmatch(r"(\d+)[x×](\d+)", value)
    size = (int(match[1]), int(match[2])) if match else (0, 0)
    if min(size) < 2:
        raise click.BadParameter(f"{value!r} is not WxH in sensor pixels, e.g. 4000x3000")
    return size


@click.command(name="profile")
@click.argument("model", metavar="MODEL")
@click.option(
    "--size",
    default="1024x1024",
    show_default=True,
    callback=parse_size,
    metavar="WxH",
    help="Mosaic to denoise, in sensor pixels.",
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
    default=50,
    show_default=True,
    help="Timed runs, at least; they also last at least 3 s.",
)
@click.option("--json", "as_json", is_flag=True, help="Everything, all samples included, as one JSON object.")
def command(
    model: str,
    size: tuple[int, int],
    provider: str,
    tile: int | None,
    ensemble: bool,
    runs: int,
    as_json: bool,
) -> None:
    """Time MODEL, a shipped model's name or an ONNX file, on the provider that really runs."""
    from sk_deploy.denoiser import Denoiser
    from sk_deploy.profile import profile

    from .progress import progress_bar

    denoiser = Denoiser.from_file(model, provider, tile)
    with progress_bar(1) as advance:
        measured = profile(
            denoiser, *size, ensemble=ensemble, runs=runs, progress=lambda share: advance("profiling", share)
        )
    click.echo(json.dumps(measured.facts()) if as_json else describe(measured))


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
