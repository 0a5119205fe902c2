"""`skdn eval`: PSNR and SSIM of a model on noisy and clean pairs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from sk_search.benchmark import Evaluation


@click.command(name="eval")
@click.argument("model", metavar="MODEL")
@click.argument("data", metavar="DATA")
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
@click.option("--force", is_flag=True, help="Overwrite the submission file if it exists.")
@click.option(
    "--json", "as_json", is_flag=True, help="Everything, all pictures included, as one JSON object."
)
def command(
    model: str,
    data: str,
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
    """
    from sk_deploy.denoiser import Denoiser
    from sk_search.benchmark import benchmark
    from sk_search.eval_set import open_eval_set
    from sk_search.submission import check_submission, write_submission

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


def describe(evaluation: Evaluation) -> str:
    """The evaluation as a table."""
    from sk_search.benchmark import ENSEMBLE, NOISY, SINGLE

    columns = [column for column in (NOISY, SINGLE, ENSEMBLE) if evaluation.score(column)]
    groups = evaluation.groups()
    width = max(len(group) for group in (*groups, "group"))

    def row(name: str, pictures: int, group: str | None) -> str:
        scores = (evaluation.score(column, group) for column in columns)
        cells = (f"{score.psnr_db:10.4f} / {score.ssim:.5f}" for score in scores if score)
        return f"{name:<{width}}{pictures:>7}" + "".join(cells)

    megapixels = sum(result.megapixels for result in evaluation.results)
    sources = evaluation.noise_sources()
    level = " and ".join(f"{source} ({count})" for source, count in sources.items()) or "none, a blind model"
    lines = [
        f"{evaluation.model} on {evaluation.provider}: {evaluation.title}, "
        f"{len(evaluation.results)} pictures, {megapixels:.1f} MP; noise level: {level}",
    ]
    if columns:
        lines.append(f"{'group':<{width}}{'n':>7}" + "".join(f"{column:>20}" for column in columns))
        for group in groups if len(groups) > 1 else []:
            lines.append(row(group, sum(r.group == group for r in evaluation.results), group))
        lines.append(row("mean", len(evaluation.results), None))
    times = ((c, evaluation.s_per_mp(c)) for c in (SINGLE, ENSEMBLE))
    lines.append(
        ", ".join(f"{column} {seconds:.3f} s/MP" for column, seconds in times if seconds is not None)
    )
    return "\n".join(lines)
