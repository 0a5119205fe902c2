"""`skdn show`: what a run or a model file is, how sure its search was, what to do next; or runs compared."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click


@click.command()
@click.argument(
    "paths",
    metavar="RUN...|MODEL",
    nargs=-1,
    required=True,
    type=click.Path(path_type=Path),
)
@click.option(
    "--html",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write the comparison as a page, with a plot.",
)
@click.option(
    "--svg",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Draw the architecture that one run or model has.",
)
@click.option("--force", is_flag=True, help="Overwrite that page or drawing.")
@click.option("--json", "as_json", is_flag=True, help="Facts as JSON on stdout.")
def command(paths: tuple[Path, ...], html: Path | None, svg: Path | None, force: bool, as_json: bool) -> None:
    """Describe a run directory or a model, a shipped model's name or an ONNX file; or compare several runs.

    A folder of runs stands for all of them. Runs that differ only in the seed are summed up as mean ±
    standard deviation, and compared with uniform and random baselines of equal cost. Needs no PyTorch.
    """
    several = len(paths) > 1 or _holds_runs(paths[0])
    if not several and html:
        raise click.UsageError("--html is for comparing: give several runs, or a folder of them")
    if several and svg:
        raise click.UsageError("--svg draws one network: give one run or model")
    if not several:
        path = _shipped(paths[0])
        facts = summary(path)
        if svg:
            from sk_search.report_architecture import write_architecture

            write_architecture(_genotype(path), svg, force)
        if as_json:
            click.echo(json.dumps(facts, indent=1, ensure_ascii=False))
        else:
            from .show_text import print_facts

            print_facts(facts)
        return

    from sk_search.compare import compare
    from sk_search.compare_table import comparison_text

    comparison = compare(paths)
    if html:
        from sk_search.report_compare import write_comparison

        write_comparison(comparison, html, force)
    if as_json:
        click.echo(json.dumps(comparison.facts(), indent=1, ensure_ascii=False))
    else:
        click.echo(comparison_text(comparison))
        if html:
            click.echo(f"\nwritten: {html}")


def _shipped(path: Path) -> Path:
    """The shipped model of that name, where there is no run and no file of it."""
    from sk_deploy.models import shipped_models

    return path if path.exists() else shipped_models().get(str(path), path)


def _holds_runs(path: Path) -> bool:
    """Whether `path` is a folder that is not a run but has runs in it."""
    return (
        path.is_dir()
        and not (path / "config.json").exists()
        and any((inner / "config.json").is_file() for inner in path.iterdir())
    )


def summary(path: Path) -> dict[str, Any]:
    """The facts of a run directory or of a model file; JSON holds them.

    Raises ConfigError for a directory that is not a run and where there is nothing, ModelError for a file
    that is not one of our models.
    """
    return _model_facts(path) if path.is_file() else _run_facts(path)


def _model_facts(path: Path) -> dict[str, Any]:
    from sk_deploy.genotype import CHANGES
    from sk_deploy.model_file import read_model

    _, spec = read_model(path)
    return {
        "kind": "model",
        "path": str(path),
        "name": spec.name,
        "arch": spec.genotype.get("arch"),
        "type": spec.genotype.get("type"),
        "mode": spec.genotype.get("mode"),
        "macs_per_mp": spec.macs_per_mp,
        "parameters": spec.parameters,
        "licence": spec.licence,
        "conditioning": spec.conditioning,
        "multiple": spec.multiple,
        "halo": spec.halo,
        **{change: spec.genotype.get(change, []) for change in CHANGES},
        "training_data": spec.training_data,
        "parity": spec.parity,
        "config_hash": spec.config_hash,
        "superkernels": _superkernels(spec.genotype),
        "next": f"skdn denoise INPUT --model {path} --ensemble",
    }


def _genotype(path: Path) -> dict[str, Any]:
    """Of a run or a model. ConfigError for a run that has not been distilled."""
    if path.is_file():
        from sk_deploy.model_file import read_model

        return read_model(path)[1].genotype

    from sk_deploy.errors import ConfigError
    from sk_search.record import read_record

    genotype = read_record(path).genotype
    if genotype is None:
        raise ConfigError(f"{path} has nothing to draw yet: `skdn distil {path}` reads it from the search")
    return genotype


def _run_facts(path: Path) -> dict[str, Any]:
    from sk_deploy.errors import ConfigError
    from sk_search.record import read_record

    if not path.exists():
        raise ConfigError(f"{path} does not exist: expected a run of `skdn search`, or a model")
    record = read_record(path)
    genotype = record.genotype or {}
    structure, net = record.settings.get("structure", {}), record.settings.get("net", {})
    stages = {name: _stage_facts(stage) for name, stage in record.stages.items()}
    done = [stage["best"] for stage in stages.values() if stage["best"]]
    return {
        "kind": "run",
        "path": str(path),
        "name": path.resolve().name,
        "arch": net.get("arch"),
        "type": structure.get("type"),
        "mode": structure.get("mode"),
        "macs_per_mp": genotype.get("macs_per_mp"),
        "parameters": genotype.get("parameters"),
        "seed": record.header.get("seed"),
        "commit": record.header.get("commit"),
        "stages": {
            "search": stages["search"],
            "distilled": (path / "distilled" / "best.safetensors").is_file(),
            "finetune": stages["finetune"],
            "ensembled": stages["ensembled"],
            "exported": _exported(record),
        },
        "best": done[-1] if done else None,
        "parity": record.parity,
        "superkernels": _superkernels(genotype) if genotype else [],
        "next": _next_step(path, stages, record),
    }


def _stage_facts(stage: Any) -> dict[str, Any]:
    return {
        "step": stage.step,
        "steps": stage.steps,
        "finished": stage.finished,
        "seconds": stage.seconds,
        "best": stage.best,
    }


def _next_step(path: Path, stages: dict[str, dict[str, Any]], record: Any) -> str:
    """The command that brings a run on; `skdn export` does whatever a searched run still lacks."""
    name = path.resolve().name
    if record.genotype is None and not stages["search"]["finished"]:
        return f"skdn search --out {path} --resume"
    model = _exported(record)
    if model is None:
        return f"skdn export {path} {name}.onnx"
    return f"skdn denoise INPUT --model {model} --ensemble"


def _exported(record: Any) -> str | None:
    """The model file that a run became; None for one whose export is still to come, or was refused."""
    return (record.parity or {}).get("model")


def _superkernels(genotype: dict[str, Any]) -> list[dict[str, Any]]:
    from sk_deploy.genotype import genes

    return [
        {
            "name": gene.name,
            "kernel": gene.kernel,
            "kernels": gene.kernels,
            "filters": len(gene.filters),
            "max_filters": gene.max_filters,
            "probability": gene.probability,
            "entropy": gene.entropy,
            "kernel_probabilities": gene.kernel_probabilities,
            "undecided": gene.undecided,
        }
        for gene in (genes(genotype) if genotype else [])
    ]
