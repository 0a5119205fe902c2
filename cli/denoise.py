"""`skdn denoise`: raw photographs in, CFA DNGs or other formats out."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sk_deploy.models import DEFAULT_MODEL

from .profile import parse_size

if TYPE_CHECKING:
    from sk_deploy.batch import Result
    from sk_deploy.noise import NoiseProfile


def parse_noise(ctx: click.Context, parameter: click.Parameter, value: str) -> NoiseProfile | None:
    """`auto` -> None; `SHOT,READ` -> variances."""
    if value == "auto":
        return None
    from sk_deploy.errors import ConfigError
    from sk_deploy.noise import NoiseProfile

    try:
        shot, read = (float(number) for number in value.split(","))
        return NoiseProfile(shot, read)
    except ValueError:
        raise click.BadParameter(f"{value!r} is neither auto nor SHOT,READ, e.g. 1e-3,2e-6") from None
    except ConfigError as error:
        raise click.BadParameter(str(error)) from None


def parse_levels(
    ctx: click.Context, parameter: click.Parameter, value: str | None
) -> tuple[float, float] | None:
    """`BLACK,WHITE` -> counts."""
    if value is None:
        return None
    try:
        black, white = (float(number) for number in value.split(","))
    except ValueError:
        raise click.BadParameter(f"{value!r} is not BLACK,WHITE, e.g. 64,1023") from None
    if not 0 <= black < white < float("inf"):
        raise click.BadParameter(f"{value!r}: expected black below white, from 0 up")
    return black, white


@click.command(name="denoise")
@click.argument("inputs", nargs=-1, required=True, metavar="INPUT...")
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for the outputs, made as needed; else NAME_denoised.dng beside each input.",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["dng", "tiff", "npy", "png", "jpg"]),
    default="dng",
    show_default=True,
    help="A DNG that edits like the original, the mosaic as 16-bit TIFF or floats, or a picture to look at.",
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
    help="Tiles of at most PX × PX sensor pixels: less memory, more work.  [default: by the memory at hand]",
)
@click.option(
    "--noise",
    default="auto",
    show_default=True,
    callback=parse_noise,
    metavar="auto|SHOT,READ",
    help="Noise variance SHOT·x + READ where white is 1; auto asks the file, else measures the picture, with "
    "what an installed darktable knows of the camera.",
)
@click.option(
    "--pattern",
    type=click.Choice(["RGGB", "GRBG", "GBRG", "BGGR"]),
    help="Phase of plain mosaics (TIFF, PNG, PGM, npy, mat, or without a header).",
)
@click.option(
    "--levels",
    callback=parse_levels,
    metavar="BLACK,WHITE",
    help="Counts of black and white in plain mosaics.  [default: 0 and the highest of their type]",
)
@click.option(
    "--size",
    callback=parse_size,
    metavar="WxH",
    help="Width and height of mosaics without a header: pixels of 8 bit, or of 16 bit little-endian.",
)
@click.option("--force", is_flag=True, help="Overwrite outputs that exist; without it, they are skipped.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a file, as soon as it is done.")
@click.pass_context
def command(
    ctx: click.Context,
    inputs: tuple[str, ...],
    out: Path | None,
    form: str,
    model: str,
    ensemble: bool,
    strength: float,
    provider: str,
    tile: int | None,
    noise: NoiseProfile | None,
    pattern: str | None,
    levels: tuple[float, float] | None,
    size: tuple[int, int] | None,
    force: bool,
    as_json: bool,
) -> None:
    """Denoise raw photographs: files, folders or glob patterns.

    Each becomes a CFA DNG that edits like the original, which is never changed. Folders are searched with
    their sub-folders, for plain mosaics too where --pattern tells their phase. An output appears when it is
    complete, and one that exists is skipped: the same command again goes on where an interrupted one stopped.
    """
    from sk_deploy.batch import Options, denoise_files
    from sk_deploy.denoiser import Denoiser
    from sk_deploy.inputs import find_jobs

    from .batch_progress import batch_progress
    from .batch_text import line, table

    started = time.monotonic()
    denoiser = Denoiser.from_file(model, provider, tile)
    jobs = find_jobs(inputs, out, form, plain=pattern is not None)
    options = Options(
        noise=noise,
        pattern=pattern,
        levels=levels,
        size=size,
        ensemble=ensemble,
        strength=strength,
        force=force,
        form=form,
    )
    results: list[Result] = []
    with batch_progress(jobs) as progress:
        for result in denoise_files(denoiser, jobs, options, progress.advance):
            results.append(result)
            progress.end(result)
            if as_json:
                click.echo(json.dumps(result.facts()))
            if result.status == "failed":
                click.echo(f"skdn: {result.message}", err=True)
            elif not as_json:
                click.echo(line(result))
    if len(jobs) > 1 and not as_json:
        click.echo(table(results, time.monotonic() - started))
    ctx.exit(1 if any(result.status == "failed" for result in results) else 0)
