"""`skdn search --seeds N --baselines`: what a search is worth, as a mean and a spread.

The paper's gains (0.02–0.12 dB) are near the spread between its own runs, so one run shows nothing. A study
searches, distils and fine-tunes once a seed; with baselines it also trains a uniform and a random network of
the mean cost that the searches arrived at, on the same data for the same number of steps.

    study.json            the configuration, the number of seeds, whether there are baselines
    <type>-<seed>/ …      a run directory each; uniform-<seed>/ and random-<seed>/ beside them
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from statistics import fmean

import torch

from sk_deploy.errors import ConfigError

from . import parallel
from .config import RIVALS, RunConfig, StructureConfig
from .lut import LatencyTable
from .record import read_object, read_record
from .run import load_genotype, write_json
from .search import build, search
from .stages import finish_stages
from .training import Report

_SCHEMA = 1


def study(
    out: Path,
    config: RunConfig | None,
    seeds: int = 1,
    baselines: bool = False,
    report: Report = lambda record: None,
    lut: Path | None = None,
) -> list[Path]:
    """Run a study in the folder `out`, or continue the one that is there; its run directories.

    config: of every run, which take the seeds from config.seed on; None: continue. lut: latency table, where
    the target is in milliseconds. Raises ConfigError.
    """
    if parallel.world() > 1:
        raise ConfigError("a study trains one run after another in one process: start it without torchrun")
    if config is None:
        config, seeds, baselines = _load(out)
    else:
        if out.exists() and any(out.iterdir()):
            raise ConfigError(f"{out} is not empty: choose another --out, or continue with --resume")
        table = LatencyTable.read(lut) if lut else None
        build(config, table, torch.device("cpu"))  # refuses a target before anything is written
        out.mkdir(parents=True, exist_ok=True)
        if table:
            table.write(out / "lut.json")
        facts = {"schema": _SCHEMA, "seeds": seeds, "baselines": baselines, "config": config.to_dict()}
        write_json(out / "study.json", facts)
    kept_lut = out / "lut.json"
    lut = kept_lut if kept_lut.is_file() else None
    every_seed = range(config.seed, config.seed + seeds)
    runs = [
        _complete(out / f"{config.structure.type}-{seed}", replace(config, seed=seed), report, lut)
        for seed in every_seed
    ]
    for kind in RIVALS if baselines else ():
        rival = replace(config, structure=_at_cost_of(runs[:seeds], config.structure, kind))
        runs += [
            _complete(out / f"{kind}-{seed}", replace(rival, seed=seed), report, lut) for seed in every_seed
        ]
    return runs


def is_study(folder: Path) -> bool:
    """Whether a study was begun in the folder."""
    return (folder / "study.json").is_file()


def _complete(run: Path, config: RunConfig, report: Report, lut: Path | None) -> Path:
    """Search, distil and fine-tune, as far as that is not done."""
    if not (run / "config.json").is_file():
        search(run, config, report, lut)
    elif not read_record(run).search.finished:
        search(run, None, report)
    finish_stages(run, report)
    return run


def _at_cost_of(searched: list[Path], structure: StructureConfig, kind: str) -> StructureConfig:
    """An architecture that nobody searched, at the mean cost that decided the searches."""
    decisive = next(iter(structure.targets()), "macs_per_mp")
    cost = fmean(load_genotype(run)[decisive] for run in searched)
    unaimed = {f"target_{name}": None for name in structure.targets()}
    return replace(structure, type=kind, **{**unaimed, f"target_{decisive}": cost})


def _load(out: Path) -> tuple[RunConfig, int, bool]:
    facts = read_object(out / "study.json")
    if facts is None or facts.get("schema") != _SCHEMA:
        raise ConfigError(
            f"{out / 'study.json'} is of another version of skdn, or damaged: start a new study"
        )
    return RunConfig.from_dict(facts["config"]), facts["seeds"], facts["baselines"]
