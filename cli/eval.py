"""`skdn eval`: how close models come to the clean picture, on pairs, on photographs, on rendered charts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from sk_deploy.denoiser import Denoiser


@click.command(name="eval")
@click.argument("arguments", metavar="MODEL... [DATA]", nargs=-1, required=True)
@click.option(
    "--bench",
    type=click.Path(path_type=Path),
    metavar="PHOTOS",
    help="Measure on a folder of photographs, brought back to raw, beside NLM and wavelets.",
)
@click.option("--charts", is_flag=True, help="Measure on rendered test charts, text, stars, skin, skies ...")
@click.option(
    "--picture",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="With --bench or --charts: show what the models make of a few pictures, as a PNG.",
)
@click.option(
    "--ensemble/--no-ensemble",
    default=True,
    show_default=True,
    help="Also average eight flips and turns: eight times slower.",
)
@click.option(
    "--provider", type=click.Choice(["auto", "cuda", "tensorrt", "cpu"]), default="auto", show_default=True
)
@click.option(
    "--submission",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write the denoised blocks as SIDD (.mat; .csv for Kaggle) or SIDD+ (.mat) takes them.",
)
@click.option("--force", is_flag=True, help="Overwrite the submission or the picture if it exists.")
@click.option(
    "--json", "as_json", is_flag=True, help="Everything, all pictures included, as one JSON object."
)
def command(
    arguments: tuple[str, ...],
    bench: Path | None,
    charts: bool,
    picture: Path | None,
    ensemble: bool,
    provider: str,
    submission: Path | None,
    force: bool,
    as_json: bool,
) -> None:
    """Measure PSNR and SSIM of MODEL, a shipped model's name or an ONNX file, on DATA.

    DATA is a folder with noisy/ and clean/ raws of the same names; SIDD's training scenes, of which the tenth
    that no run trains on is measured; or evaluation blocks of SIDD or SIDD+ (.mat), which may lack their
    ground truth where --submission is given. The noise level comes from SIDD's calibration or metadata, or
    the raw's NoiseProfile; else it is estimated.

    With --bench or --charts there is no DATA, and several MODELs share the tables. --bench: PSNR, SSIM,
    colour bias and time, for sharp and soft photographs at four noise levels. --charts: what each model gains
    on each content, from next to no noise to a lot of it, and where it does worst.
    """
    if bench or charts:
        if submission:
            raise click.UsageError(
                "--submission is for SIDD's and SIDD+'s blocks, not for --bench or --charts"
            )
        _compare(arguments, bench, charts, picture, ensemble, provider, force, as_json)
        return
    if picture:
        raise click.UsageError("--picture needs --bench PHOTOS or --charts")
    if len(arguments) != 2:
        raise click.UsageError(
            f"expected MODEL DATA, found {' '.join(arguments)}; several models, and no DATA, go with "
            "--bench PHOTOS or --charts"
        )
    _evaluate(*arguments, ensemble, provider, submission, force, as_json)


def _evaluate(
    model: str,
    data: str,
    ensemble: bool,
    provider: str,
    submission: Path | None,
    force: bool,
    as_json: bool,
) -> None:
    """One model on a set as published."""
    from sk_deploy.denoiser import Denoiser
    from sk_search.benchmark import benchmark
    from sk_search.eval_set import open_eval_set
    from sk_search.submission import check_submission, write_submission

    from .eval_text import describe
    from .progress import progress_bar

    denoiser = Denoiser.from_file(model, provider)
    eval_set = open_eval_set(data, secret=submission is not None)
    if submission is not None:
        check_submission(submission, eval_set, force=force)
    blocks: list[NDArray[np.float32]] = []
    with progress_bar(eval_set.count) as advance:
        evaluation = benchmark(
            denoiser,
            eval_set,
            ensemble=ensemble,
            progress=advance,
            keep=blocks.append if submission is not None else None,
        )
    if submission is not None:
        write_submission(submission, eval_set, blocks, evaluation)
    click.echo(json.dumps(evaluation.facts()) if as_json else describe(evaluation))
    if submission is not None and not as_json:
        click.echo(f"submission: {submission}")


def _compare(
    models: tuple[str, ...],
    bench: Path | None,
    charts: bool,
    picture: Path | None,
    ensemble: bool,
    provider: str,
    force: bool,
    as_json: bool,
) -> None:
    """Several models and the free methods beside them."""
    from sk_search.bench_set import photograph_bench, photograph_examples
    from sk_search.benchmark import Measured, Method, all_passes, measure
    from sk_search.charts import chart_examples, chart_set
    from sk_search.classical import CLASSICAL
    from sk_search.comparison import check_picture, comparison, write_picture
    from sk_search.eval_set import EvalSet

    from .eval_text import describe_bench, describe_charts
    from .progress import progress_bar

    if picture is not None:
        check_picture(picture, force=force)
    denoisers = _open(models, provider)
    columns = all_passes(denoisers, ensemble=ensemble)
    sets: dict[str, tuple[EvalSet, dict[str, Method]]] = {}
    if bench:
        sets["bench"] = photograph_bench(bench), CLASSICAL | columns
    if charts:
        sets["charts"] = chart_set(), columns
    measured = {}
    for name, (eval_set, methods) in sets.items():
        with progress_bar(eval_set.count) as advance:
            measured[name] = Measured(eval_set.title, measure(methods, eval_set, advance))
    if picture is not None:
        examples = (photograph_examples(bench) if bench else []) + (chart_examples() if charts else [])
        write_picture(picture, comparison(examples, all_passes(denoisers, ensemble=False)))
    providers = {name: denoiser.provider for name, denoiser in denoisers.items()}
    if as_json:
        facts = {name: table.facts() for name, table in measured.items()}
        click.echo(json.dumps({"providers": providers, **facts}))
        return
    click.echo("; ".join(f"{name} on {ran}" for name, ran in providers.items()))
    for name, table in measured.items():
        click.echo("\n" + (describe_bench(table) if name == "bench" else describe_charts(table)))
    if picture is not None:
        click.echo(f"\npicture: {picture}")


def _open(models: tuple[str, ...], provider: str) -> dict[str, Denoiser]:
    """Each model by its own name, or as it was given where two have the same name."""
    from sk_deploy.denoiser import Denoiser

    opened = {model: Denoiser.from_file(model, provider) for model in models}
    names = [denoiser.spec.name for denoiser in opened.values()]
    return {
        denoiser.spec.name if names.count(denoiser.spec.name) == 1 else model: denoiser
        for model, denoiser in opened.items()
    }
