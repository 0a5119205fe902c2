"""`skdn export`: a run's network as a small ONNX file."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--name", help="Name that the model goes by.  [default: the file's]")
@click.option(
    "--licence", default="unstated", show_default=True, help="Licence of the model, as its users see it."
)
@click.option("--force", is_flag=True, help="Overwrite a model that exists.")
@click.pass_context
def command(ctx: click.Context, run: Path, model: Path, name: str | None, licence: str, force: bool) -> None:
    """Write the network of RUN to MODEL (.onnx), proven equal to what was searched.

    Distils and fine-tunes first where the run lacks that.
    """
    from sk_deploy.errors import ProviderError
    from sk_search.export import export
    from sk_search.timed import time_against_target

    from .training_progress import training_progress

    try:
        with training_progress() as report:
            spec = export(run, model, name=name, licence=licence, force=force, report=report)
    except KeyboardInterrupt:
        click.echo(f"interrupted: the same command continues, skdn export {run} {model}", err=True)
        ctx.exit(130)
    for equality, difference in spec.parity.items():
        click.echo(f"{equality:28s} {difference:.1e}")
    size_kb = model.stat().st_size / 1e3
    click.echo(
        f"{model}: {spec.macs_per_mp / 1e9:.2f} GMAC/MP, {spec.parameters} parameters, {size_kb:.0f} kB"
    )
    try:
        timed = time_against_target(run, model)
    except ProviderError as error:
        click.echo(f"latency not measured: {error}", err=True)
    else:
        if timed:
            click.echo(f"latency: {timed}")
    click.echo(f"report: {run / 'report.html'}\nnext: skdn denoise INPUT.dng --model {model}")
