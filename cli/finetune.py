"""`skdn finetune`: train a distilled network on."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--steps", type=click.IntRange(min=1), help="Training steps at most.  [the run's configuration]"
)
@click.option("--resume", is_flag=True, help="Continue from the last checkpoint.")
@click.pass_context
def command(ctx: click.Context, run: Path, steps: int | None, resume: bool) -> None:
    """Train the distilled network on, its structure now fixed."""
    from sk_search.finetune import finetune

    from .training_progress import training_progress

    try:
        with training_progress() as report:
            finetune(run, steps=steps, resume=resume, report=report)
    except KeyboardInterrupt:
        click.echo(f"interrupted: continue with  skdn finetune {run} --resume", err=True)
        ctx.exit(130)
    click.echo(f"fine-tuned: {run / 'finetuned'}\nnext: skdn export {run} {run.name}.onnx")
