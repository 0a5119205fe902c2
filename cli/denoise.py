"""`skdn denoise`: raw photographs in, CFA DNGs out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sk_deploy.models import DEFAULT_MODEL

if TYPE_CHECKING:
    from sk_deploy.batch import Result
    from sk_deploy.inputs import Job
    from sk_deploy.noise import NoiseProfile


def parse_noise(ctx: click.Context, parameter: click.Parameter, value: str) -> NoiseProfile | None:
    """`auto` -> None; `SHOT,READ` -> variances; `CAMERA@ISO` -> variances that darktable knows."""
    if value == "auto":
        return None
    from sk_deploy.camera_profiles import named_profile
    from sk_deploy.errors import ConfigError
    from sk_deploy.noise import NoiseProfile

    try:
        if "@" in value:
            return named_profile(value).noise()
        shot, read = (float(number) for number in value.split(","))
        return NoiseProfile(shot, read)
    except ValueError:
        raise click.BadParameter(
            f"{value!r} is neither auto nor SHOT,READ, e.g. 1e-3,2e-6, nor CAMERA@ISO"
        ) from None
    except ConfigError as error:
        raise click.BadParameter(str(error)) from None


@click.command(name="denoise")
@click.argument("inputs", nargs=-1, required=True, metavar="INPUT...")
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for the outputs, made as needed; else NAME_denoised.dng beside each input.",
)
@click.option(
    "--model",
    default=DEFAULT_MODEL,
    show_default=True,
    metavar="NAME|FILE",
    help="A shipped model (skdn models) or an ONNX file.",
)
@click.option(
    "--ensemble", is_flag=True, help="Average eight flips and turns: better, and eight times slower."
)
@click.option(
    "--strength",
    type=click.FloatRange(0, 1),
    default=1.0,
    show_default=True,
    help="Blend from the original (0) to the denoised picture (1).",
)
@click.option(
    "--provider", type=click.Choice(["auto", "cuda", "tensorrt", "cpu"]), default="auto", show_default=True
)
@click.option(
    "--tile",
    type=click.IntRange(min=2),
    metavar="PX",
    help="Longest edge of a tile in sensor pixels: less memory, more work.  [default: 1024]",
)
@click.option(
    "--noise",
    default="auto",
    show_default=True,
    callback=parse_noise,
    metavar="auto|SHOT,READ|CAMERA@ISO",
    help="Noise variance SHOT·x + READ where white is 1. auto asks the file, then an installed darktable "
    "about the camera, and measures the picture; CAMERA@ISO asks darktable, e.g. 'Nikon D5000@200'.",
)
@click.option(
    "--pattern",
    type=click.Choice(["RGGB", "GRBG", "GBRG", "BGGR"]),
    help="Phase of plain mosaics (TIFF, PNG, PGM, npy, mat).",
)
@click.option("--force", is_flag=True, help="Overwrite outputs that exist; without it, they are skipped.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a file.")
@click.pass_context
def command(
    ctx: click.Context,
    inputs: tuple[str, ...],
    out: Path | None,
    model: str,
    ensemble: bool,
    strength: float,
    provider: str,
    tile: int | None,
    noise: NoiseProfile | None,
    pattern: str | None,
    force: bool,
    as_json: bool,
) -> None:
    """Denoise raw photographs: files, folders or glob patterns.

    Each becomes a CFA DNG that edits like the original, which is never changed. Outputs that exist are
    skipped, so an interrupted run goes on where it stopped.
    """
    from sk_deploy.batch import Options, denoise_files
    from sk_deploy.denoiser import Denoiser
    from sk_deploy.inputs import find_jobs

    from .progress import progress_bar

    denoiser = Denoiser.from_file(model, provider, tile)
    jobs = find_jobs(inputs, out)
    options = Options(noise=noise, pattern=pattern, ensemble=ensemble, strength=strength, force=force)
    counts = {"done": 0, "skipped": 0, "failed": 0}
    position = {job.source: index for index, job in enumerate(jobs)}
    with progress_bar(len(jobs)) as advance:

        def progress(job: Job, share: float) -> None:
            advance(job.source.name, position[job.source] + share)

        for result in denoise_files(denoiser, jobs, options, progress):
            counts[result.status] += 1
            report(result, as_json)
    if len(jobs) > 1 and not as_json:
        click.echo(", ".join(f"{count} {status}" for status, count in counts.items() if count))
    ctx.exit(1 if counts["failed"] else 0)


def report(result: Result, as_json: bool) -> None:
    """One line a file: results on stdout, what failed on stderr."""
    if as_json:
        click.echo(json.dumps(result.facts()))
    if result.status == "failed":
        click.echo(f"skdn: {result.message}", err=True)
    elif not as_json:
        click.echo(result.message if result.status == "skipped" else _line(result))


def _line(result: Result) -> str:
    sources = {
        "given": "given",
        "file": "from the file's NoiseProfile",
        "camera profile": "from darktable's profile of the camera",
        "estimate": "estimated",
    }
    if result.noise is None:
        noise = "a blind model"
    else:
        level = f"{result.noise.shot:.3g},{result.noise.read:.3g}"
        noise = f"noise {level} {sources[result.noise_source]}"
    return (
        f"{result.target}: {result.megapixels:.1f} MP in {result.denoise_s:.2f} s "
        f"({result.mp_per_s:.2f} MP/s, {result.model} on {result.provider}), {noise}"
    )
