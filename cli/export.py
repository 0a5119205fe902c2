"""`skdn export`: a run's network as a small ONNX file, or a model file in another form."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from .denoise import parse_noise

if TYPE_CHECKING:
    from sk_deploy.noise import NoiseProfile
    from sk_deploy.spec import ModelSpec


def baked_noise(ctx: click.Context, parameter: click.Parameter, value: str | None) -> NoiseProfile | None:
    """SHOT,READ or CAMERA@ISO -> variances; nothing is ever measured here."""
    if value == "auto":
        raise click.BadParameter("'auto' needs a picture: give SHOT,READ, e.g. 1e-3,2e-6, or CAMERA@ISO")
    if value is not None and "@" in value:
        from sk_deploy.camera_profiles import named_profile
        from sk_deploy.errors import ConfigError

        try:
            return named_profile(value).noise()
        except ConfigError as error:
            raise click.BadParameter(str(error)) from None
    return None if value is None else parse_noise(ctx, parameter, value)


@click.command()
@click.argument("source", metavar="RUN|MODEL")
@click.argument("target", type=click.Path(path_type=Path))
@click.option("--name", help="Name that the model goes by.  [default: the target's]")
@click.option("--licence", help="Licence of a run's model, as its users see it.  [default: unstated]")
@click.option("--fp16", is_flag=True, help="Half precision, for GPUs: half the size; its cost is measured.")
@click.option("--darktable", is_flag=True, help="Write a .dtmodel for darktable 5.6 beside TARGET.onnx too.")
@click.option(
    "--noise",
    callback=baked_noise,
    metavar="SHOT,READ|CAMERA@ISO",
    help="Noise level that a .dtmodel is for: darktable tells a model none. Best is what skdn denoise prints "
    "for a raw of yours; CAMERA@ISO, e.g. 'Nikon D5000@200', asks an installed darktable, whose profiles "
    "tell it within 30 %.",
)
@click.option(
    "--last",
    is_flag=True,
    help="Of a run, the weights of its last step, in place of those that validated best.",
)
@click.option(
    "--masked-from",
    type=click.FloatRange(min=0, min_open=True),
    metavar="CONTRAST",
    help="Of a run, the fine contrast, in units of the noise, from which its model leaves most of a picture "
    "as it is: a network loses patterns that it never saw, a small one sooner.  [the run's configuration]",
)
@click.option("--force", is_flag=True, help="Overwrite a model that exists.")
@click.pass_context
def command(
    ctx: click.Context,
    source: str,
    target: Path,
    name: str | None,
    licence: str | None,
    fp16: bool,
    darktable: bool,
    noise: NoiseProfile | None,
    last: bool,
    masked_from: float | None,
    force: bool,
) -> None:
    """Write the network of RUN to TARGET, proven equal to what was searched.

    TARGET ends in .onnx (a model) or .dtmodel (a package for darktable's neural restore). A run is distilled
    and fine-tuned first where it lacks that.

    A MODEL, an ONNX file or the name of a shipped one, is converted with --fp16 or to a .dtmodel; that needs
    no PyTorch.
    """
    from sk_deploy.convert import convert

    form = {"name": name, "fp16": fp16, "darktable": darktable, "noise": noise, "force": force}
    run = Path(source)
    is_model = not run.is_dir() and (run.is_file() or is_shipped(source))
    if is_model:
        if licence is not None:
            raise click.UsageError(f"{source} states its licence itself: --licence is for a run")
        if last:
            raise click.UsageError(f"{source} has one set of weights: --last is for a run")
        if masked_from is not None:
            raise click.UsageError(f"{source} has its mask already: --masked-from is for a run")
        spec = convert(source, target, **form)
    else:
        from sk_search.export import export

        from .training_progress import training_progress

        try:
            with training_progress() as report:
                spec = export(
                    run,
                    target,
                    licence=licence or "unstated",
                    last=last,
                    masked_from=masked_from,
                    report=report,
                    **form,
                )
        except KeyboardInterrupt:
            click.echo("interrupted: the same command continues", err=True)
            ctx.exit(130)
    figures = {key: value for key, value in spec.parity.items() if not is_model or key.startswith("float16")}
    for figure, value in figures.items():
        click.echo(f"{figure:28s} {value:{'.4g' if figure.endswith('_db') else '.1e'}}")
    describe(spec, target, darktable)
    if not is_model:
        time_it(run, target)
        click.echo(f"report: {run / 'report.html'}")
    click.echo(advice(target))


def is_shipped(name: str) -> bool:
    """Whether a model of that name ships with skdn."""
    from sk_deploy.models import shipped_models

    return name in shipped_models()


def describe(spec: ModelSpec, target: Path, darktable: bool) -> None:
    """Each file, its cost and its size."""
    facts = f"{spec.macs_per_mp / 1e9:.2f} GMAC/MP, {spec.parameters} parameters, {spec.precision}"
    for path in dict.fromkeys((target, target.with_suffix(".dtmodel")) if darktable else (target,)):
        click.echo(f"{path}: {facts}, {path.stat().st_size / 1e3:.0f} kB")


def time_it(run: Path, target: Path) -> None:
    """Whether a run with a latency target keeps it."""
    from sk_deploy.errors import ProviderError
    from sk_search.timed import time_against_target

    if target.suffix != ".onnx":
        return
    try:
        timed = time_against_target(run, target)
    except ProviderError as error:
        click.echo(f"latency not measured: {error}", err=True)
    else:
        if timed:
            click.echo(f"latency: {timed}")


def advice(target: Path) -> str:
    """What to do with the file."""
    if target.suffix == ".onnx":
        return f"next: skdn denoise INPUT.dng --model {target}"
    return "next: in darktable, preferences, AI, import from file; then neural restore, raw denoise"
