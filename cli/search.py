"""`skdn search`: find an architecture."""

from __future__ import annotations

from pathlib import Path

import click

from sk_search.config import ARCHS, MODES, TYPES
from sk_search.presets import PRESETS


@click.command()
@click.option(
    "--type",
    "type_",
    type=click.Choice(TYPES),
    help="Superkernel; none: no search.  [the preset's: joint]",
)
@click.option(
    "--mode",
    type=click.Choice(MODES),
    help="Treatment of the non-linearity: full, one convolution; separate, exact.  [the preset's: full]",
)
@click.option("--arch", type=click.Choice(ARCHS), help="Network that is searched in.")
@click.option(
    "--preset",
    type=click.Choice(list(PRESETS)),
    default="compact",
    show_default=True,
)
@click.option(
    "--data",
    multiple=True,
    metavar="SOURCE",
    help="A folder of photographs, or dead-leaves (the default). Repeatable.",
)
@click.option("--out", type=click.Path(path_type=Path), help="Run directory.  [default: runs/<time>-<type>]")
@click.option(
    "--target-macs", type=click.FloatRange(min=0, min_open=True), metavar="G", help="GMAC per raw megapixel."
)
@click.option("--target-params", type=click.FloatRange(min=0, min_open=True), metavar="N", help="Parameters.")
@click.option("--steps", type=click.IntRange(min=1), help="Training steps at most.")
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True)
@click.option("--resume", is_flag=True, help="Continue the run in --out with the configuration it has.")
@click.pass_context
def command(
    ctx: click.Context,
    type_: str | None,
    mode: str | None,
    arch: str | None,
    preset: str,
    data: tuple[str, ...],
    out: Path | None,
    target_macs: float | None,
    target_params: float | None,
    steps: int | None,
    seed: int,
    resume: bool,
) -> None:
    """Search for an architecture with superkernels.

    Leaves a run directory, from which `skdn export` makes a model. Interrupted, it continues with --resume.
    """
    changed = [p for p in ctx.params if ctx.get_parameter_source(p) is click.core.ParameterSource.COMMANDLINE]
    if resume and (out is None or set(changed) - {"resume", "out"}):
        raise click.UsageError("--resume continues a run as it was configured: give --out and nothing else")

    import time
    from dataclasses import replace

    from sk_search.search import search

    from .training_progress import training_progress

    config = None
    if not resume:
        config = PRESETS[preset]()
        targets = {
            "target_macs_per_mp": target_macs and target_macs * 1e9,
            "target_parameters": target_params,
            "type": type_,
            "mode": mode,
        }
        preset_structure = config.structure
        if type_ == "none":  # nothing is chosen, so the preset's targets say nothing
            preset_structure = replace(preset_structure, target_macs_per_mp=None, target_parameters=None)
        structure = replace(preset_structure, **{k: v for k, v in targets.items() if v is not None})
        config = replace(
            config,
            seed=seed,
            data=data or config.data,
            structure=structure,
            net=replace(config.net, arch=arch or config.net.arch),
            search=replace(config.search, steps=steps or config.search.steps),
        )
        out = out or Path("runs") / f"{time.strftime('%Y%m%d-%H%M%S')}-{structure.type}"
    try:
        with training_progress() as report:
            search(out, config, report)
    except KeyboardInterrupt:
        begun = (out / "config.json").is_file()
        hint = f": continue with  skdn search --out {out} --resume" if begun else ""
        click.echo(f"interrupted{hint}", err=True)
        ctx.exit(130)
    click.echo(f"searched: {out}\nnext: skdn export {out} {out.name}.onnx")
