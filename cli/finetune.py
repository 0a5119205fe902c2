"""`skdn finetune`: train a distilled network on."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--teacher",
    metavar="none|supernet|self-ensemble|RUN",
    help="Learn from a network too: the run's supernet, the fine-tuned network's own self-ensemble (a stage "
    "after fine-tuning), or the network of another run.  [the run's configuration]",
)
@click.option(
    "--steps", type=click.IntRange(min=1), help="Training steps at most.  [the run's configuration]"
)
@click.option("--resume", is_flag=True, help="Continue from the last checkpoint.")
@click.pass_context
def command(ctx: click.Context, run: Path, teacher: str | None, steps: int | None, resume: bool) -> None:
    """Train the distilled network on, its structure now fixed."""
    from sk_search.finetune import ensemble_gain, finetune
    from sk_search.parallel import is_main

    from .training_progress import training_progress

    try:
        with training_progress() as report:
            folder = finetune(run, teacher=teacher, steps=steps, resume=resume, report=report)
    except KeyboardInterrupt:
        option = f" --teacher {teacher}" if teacher else ""
        click.echo(f"interrupted: continue with  skdn finetune {run}{option} --resume", err=True)
        ctx.exit(130)
    if not is_main():
        return
    click.echo(f"fine-tuned: {folder}")
    if teacher == "self-ensemble":
        click.echo(ensemble_gain(run))
    click.echo(f"next: skdn export {run} {run.name}.onnx")
