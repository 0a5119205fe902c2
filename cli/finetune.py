"""`skdn finetune`: train a distilled network on."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("run", metavar="RUN|MODEL", type=click.Path(path_type=Path))
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    help="With MODEL: the run to make of it.  [runs/NAME]",
)
@click.option(
    "--data",
    multiple=True,
    metavar="SOURCE",
    help="With MODEL: what to train it on, as for `skdn search`; may be given several times.  [dead-leaves]",
)
@click.option(
    "--without",
    multiple=True,
    metavar="BLOCK",
    help="With MODEL: take this block out first, such as bottom.0; the rest learns to do without it. May be "
    "given several times.",
)
@click.option(
    "--enlarge",
    multiple=True,
    metavar="SUPERKERNEL",
    help="With MODEL: give this superkernel, such as bottom.1.conv1, the next larger kernel of its space "
    "first, zero around the one that it has. May be given several times.",
)
@click.option(
    "--deepen",
    multiple=True,
    metavar="LEVEL",
    help="With MODEL: give this level, such as decoder.0, a block more first: its last one becomes two of "
    "half its strength. Until they learn that costs small 0.04 to 0.17 dB, nano 0.6 at encoder.0 and "
    "2.7 at decoder.0. May be given several times.",
)
@click.option(
    "--teacher",
    metavar="none|supernet|self-ensemble|RUN",
    help="Learn from a network too: the run's supernet, the fine-tuned network's own self-ensemble (a stage "
    "after fine-tuning), or the network of another run.  [the run's configuration]",
)
@click.option(
    "--steps", type=click.IntRange(min=1), help="Training steps at most.  [the run's configuration]"
)
@click.option(
    "--learning-rate",
    metavar="RATE",
    type=click.FloatRange(min=0, min_open=True),
    help="The schedule's highest. With MODEL an eighth of a new network's, 0.001: at more it first unlearns "
    "much. Where --without, --enlarge or --deepen leave much to learn, 0.004.  [the run's configuration]",
)
@click.option(
    "--patch",
    "patch_px",
    metavar="PX",
    type=click.IntRange(min=2),
    help="Side of a training patch in sensor pixels: small ones for many steps, large ones to finish with.  "
    "[the run's configuration]",
)
@click.option("--resume", is_flag=True, help="Continue from the last checkpoint.")
@click.pass_context
def command(
    ctx: click.Context,
    run: Path,
    out: Path | None,
    data: tuple[str, ...],
    without: tuple[str, ...],
    enlarge: tuple[str, ...],
    deepen: tuple[str, ...],
    teacher: str | None,
    steps: int | None,
    learning_rate: float | None,
    patch_px: int | None,
    resume: bool,
) -> None:
    """Train the distilled network of RUN on, its structure now fixed.

    With MODEL, a shipped model's name or a file of `skdn export`, train that network on, on data of your own:
    a run is made of it first.
    """
    model = None if (run / "config.json").is_file() else _model(run)
    if model is None and (out or data or without or enlarge or deepen):
        raise click.UsageError(
            "--out, --data, --without, --enlarge and --deepen are for a MODEL: a run has them already"
        )
    if model is not None and resume:
        raise click.UsageError("--resume continues a run: give its folder in place of the model")

    from sk_search.adopt import adopt
    from sk_search.finetune import ensemble_gain, finetune
    from sk_search.parallel import is_main, joined, share
    from sk_search.record import read_record

    from .training_progress import training_progress

    ctx.with_resource(joined())
    if model is not None:
        run = out or Path("runs") / model.stem
        if is_main():
            adopt(model, run, data, without, enlarge, deepen)
        share(None)  # the others wait for the run
    try:
        with training_progress() as report:
            folder = finetune(
                run,
                teacher=teacher,
                steps=steps,
                learning_rate=learning_rate,
                patch_px=patch_px,
                resume=resume,
                report=report,
            )
    except KeyboardInterrupt:
        option = f" --teacher {teacher}" if teacher else ""
        click.echo(f"interrupted: continue with  skdn finetune {run}{option} --resume", err=True)
        ctx.exit(130)
    if not is_main():
        return
    click.echo(f"fine-tuned: {folder}")
    record = read_record(run)
    best = (record.ensembled if teacher == "self-ensemble" else record.finetune).best
    if best is not None and best["step"] == 0:
        click.echo("no validation was better than the start's: its weights are what is kept", err=True)
    if teacher == "self-ensemble":
        click.echo(ensemble_gain(run))
    click.echo(f"next: skdn export {run} {run.name}.onnx")


def _model(name: Path) -> Path | None:
    """The model file that `name` stands for; None for anything else."""
    from sk_deploy.models import shipped_models

    if name.suffix == ".onnx" and name.is_file():
        return name
    return shipped_models().get(str(name))
