"""`skdn search`: find an architecture."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import click

from sk_search.config import ARCHS, MODES, TYPES, RunConfig
from sk_search.presets import PRESETS


@click.command()
@click.option(
    "--type",
    "type_",
    type=click.Choice(TYPES),
    help="Superkernel; none, uniform, random: no search, a baseline.  [the preset's: joint]",
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
    default="small",
    show_default=True,
)
@click.option(
    "--data",
    multiple=True,
    metavar="SOURCE",
    help="A folder: photographs; raws, or clean/ with raws; noisy/ and clean/ with raws of the same names; "
    "or SIDD's scenes. Or dead-leaves (the default). Repeatable: kinds share every batch.",
)
@click.option("--out", type=click.Path(path_type=Path), help="Run directory.  [default: runs/<time>-<type>]")
@click.option(
    "--target-macs", type=click.FloatRange(min=0, min_open=True), metavar="G", help="GMAC per raw megapixel."
)
@click.option("--target-params", type=click.FloatRange(min=0, min_open=True), metavar="N", help="Parameters.")
@click.option(
    "--target-ms",
    type=click.FloatRange(min=0, min_open=True),
    metavar="MS",
    help="Milliseconds for the input that --lut was measured with; replaces the preset's targets.",
)
@click.option(
    "--lut",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Latency table of this search space on the device that will run the model: skdn profile --lut.",
)
@click.option(
    "--two-level", is_flag=True, help="Train weights and structure on different halves of the scenes."
)
@click.option("--steps", type=click.IntRange(min=1), help="Training steps at most.")
@click.option(
    "--finetune-steps", type=click.IntRange(min=1), help="Training steps at most of the fine-tuning after it."
)
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True)
@click.option(
    "--seeds",
    type=click.IntRange(min=1),
    metavar="N",
    help="Search, distil and fine-tune N times, from --seed on, and print mean ± std.",
)
@click.option(
    "--baselines",
    is_flag=True,
    help="Also train a uniform and a random network of the same cost, and print what the search gains.",
)
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
    target_ms: float | None,
    lut: Path | None,
    two_level: bool,
    steps: int | None,
    finetune_steps: int | None,
    seed: int,
    seeds: int | None,
    baselines: bool,
    resume: bool,
) -> None:
    """Search for an architecture with superkernels.

    Leaves a run directory, from which `skdn export` makes a model; with --seeds or --baselines a folder of
    run directories. Interrupted, it continues with --resume.
    """
    changed = [p for p in ctx.params if ctx.get_parameter_source(p) is click.core.ParameterSource.COMMANDLINE]
    if resume and (out is None or set(changed) - {"resume", "out"}):
        raise click.UsageError("--resume continues a run as it was configured: give --out and nothing else")
    if (target_ms is None) != (lut is None):
        raise click.UsageError(
            "--target-ms and --lut go together: `skdn profile --lut FILE` measures the table"
        )

    from sk_search.compare import compare
    from sk_search.compare_table import comparison_text
    from sk_search.parallel import is_main
    from sk_search.search import search
    from sk_search.study import is_study, study

    from .training_progress import training_progress

    config = None
    if not resume:
        targets = {
            "target_macs_per_mp": target_macs and target_macs * 1e9,
            "target_parameters": target_params,
            "target_latency_ms": target_ms,
        }
        config = _configuration(preset, type_, mode, arch, two_level, targets)
        config = replace(config, seed=seed, data=data or config.data)
        if steps:
            anneal_steps = min(config.structure.anneal_steps, steps)
            structure = replace(config.structure, anneal_steps=anneal_steps)
            config = replace(config, structure=structure, search=replace(config.search, steps=steps))
        if finetune_steps:
            config = replace(config, finetune=replace(config.finetune, steps=finetune_steps))
        out = out or Path("runs") / f"{time.strftime('%Y%m%d-%H%M%S')}-{config.structure.type}"
    several = is_study(out) if resume else bool(seeds or baselines)
    try:
        with training_progress() as report:
            if several:
                runs = study(out, config, seeds or 1, baselines, report, lut)
            else:
                search(out, config, report, lut)
    except KeyboardInterrupt:
        begun = (out / "config.json").is_file() or is_study(out)
        hint = f": continue with  skdn search --out {out} --resume" if begun else ""
        click.echo(f"interrupted{hint}", err=True)
        ctx.exit(130)
    if not is_main():
        return
    if several:
        click.echo(comparison_text(compare(runs)))
        out = runs[0]
    click.echo(f"searched: {out}\nnext: skdn export {out} {out.name}.onnx")


def _configuration(
    preset: str,
    type_: str | None,
    mode: str | None,
    arch: str | None,
    two_level: bool,
    targets: dict[str, float | None],
) -> RunConfig:
    """A preset with what the command line changes.

    One target replaces all of the preset's, which are for its own architecture and for networks of choices.
    """
    config = PRESETS[preset]()
    structure = config.structure
    if any(targets.values()):
        structure = replace(structure, **targets)
    elif type_ == "none" or arch not in (None, config.net.arch):
        structure = replace(structure, **{f"target_{name}": None for name in structure.targets()})
    chosen = {"type": type_, "mode": mode, "two_level": two_level or None}
    structure = replace(structure, **{name: value for name, value in chosen.items() if value is not None})
    finetune, net = config.finetune, replace(config.net, arch=arch or config.net.arch)
    if arch == "attention-unet":  # what its channel attention averages over is one patch
        finetune = replace(finetune, patch_px=None)
        net = replace(net, window=config.mosaic.patch_px // 2)
    return replace(config, structure=structure, net=net, finetune=finetune)
