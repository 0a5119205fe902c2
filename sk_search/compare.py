"""Several runs side by side: means over seeds, the Pareto front, and what the search itself gained.

Runs that differ only in the seed are one group. Reads JSON only and imports no PyTorch.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from sk_deploy.errors import ConfigError
from sk_deploy.genotype import genes

from .config import BASELINES, RIVALS
from .record import RunRecord, StageRecord, is_number, read_record

EQUAL_COST = 0.1
"""A baseline whose cost is within this share of a group's costs the same: filters come in whole multiples."""

COSTS = ("macs_per_mp", "parameters", "latency_ms")


@dataclass(frozen=True)
class Entry:
    """One run."""

    name: str
    """Its folder, from the folder that all runs have in common."""
    path: Path
    preset: str
    type: str
    mode: str
    arch: str
    seed: int
    macs_per_mp: float | None
    parameters: float | None
    latency_ms: float | None
    expected: bool
    """Whether the costs are the search's last expectations, for want of a genotype."""
    psnr_db: float | None
    psnr_ensemble_db: float | None
    psnr_noisy_db: float | None
    ssim: float | None
    undecided: int | None
    superkernels: int | None
    seconds: float | None
    """Of training, all stages."""


@dataclass(frozen=True)
class Spread:
    """Of one quantity over the runs of a group."""

    mean: float
    std: float | None
    """Sample standard deviation; None for one run."""
    runs: int


@dataclass(frozen=True)
class Gain:
    """PSNR over a baseline of equal cost."""

    over: str
    """Name of the baseline's group."""
    baseline: str
    """Its type."""
    psnr_db: Spread
    """Differences of runs with the same seed, where both groups have the same seeds."""
    cost_ratio: float
    """Cost over the baseline's."""


@dataclass(frozen=True)
class Group:
    """Runs that differ only in the seed."""

    name: str
    type: str
    entries: tuple[Entry, ...]
    macs_per_mp: Spread | None
    parameters: Spread | None
    latency_ms: Spread | None
    psnr_db: Spread | None
    psnr_ensemble_db: Spread | None
    ssim: Spread | None
    gains: tuple[Gain, ...] = ()
    on_front: bool = False
    """Whether no other group is both as cheap and as good."""


@dataclass(frozen=True)
class Comparison:
    groups: tuple[Group, ...]
    stage: str
    """Whose validation the PSNRs are of: the last stage that every run has come to."""
    cost: str
    """The one of COSTS that the runs have a target for; multiply-accumulates where they have none."""
    notes: tuple[str, ...]
    """What keeps these numbers from being compared as they are."""

    @property
    def entries(self) -> list[Entry]:
        return [entry for group in self.groups for entry in group.entries]

    def facts(self) -> dict[str, Any]:
        """For JSON."""
        return {"kind": "comparison", **json.loads(json.dumps(dataclasses.asdict(self), default=str))}


def compare(runs: Sequence[Path]) -> Comparison:
    """Compare run directories; a folder that holds runs stands for them.

    Raises ConfigError for what is neither, and for a damaged run; ModelError for a damaged genotype.
    """
    records = [read_record(run) for run in dict.fromkeys(r.resolve() for f in runs for r in _runs_at(f))]
    validated = [record for record in records if record.search.best or record.finetune.best]
    tuned = [record for record in validated if record.finetune.best]
    stage = "finetune" if tuned and tuned == validated else "search"
    cost = _cost_axis(records)
    home = Path(os.path.commonpath([record.path.parent for record in records]))
    alike: dict[str, list[tuple[RunRecord, Entry]]] = {}
    for record in records:
        entry = _entry(record, record.path.relative_to(home).as_posix(), stage)
        alike.setdefault(_without(record.settings, "seed"), []).append((record, entry))
    groups, tasks = [], {}
    for members in alike.values():
        entries = sorted((entry for _, entry in members), key=lambda entry: entry.seed)
        group = _group(_group_name(entries, [group.name for group in groups]), entries)
        groups.append(group)
        tasks[group.name] = _without(members[0][0].settings, "seed", "structure", "net")
    notes = _notes(groups, tuned if stage == "search" else [], len(validated))
    judged, alone = [], {kind: list[str]() for kind in RIVALS}
    for group in groups:
        rivals = [other for other in groups if tasks[other.name] == tasks[group.name]]
        gains = _gains(group, rivals, cost, alone)
        judged.append(dataclasses.replace(group, gains=gains, on_front=_on_front(group, groups, cost)))
    for kind, names in alone.items():
        if names:
            notes.append(f"no {kind} baseline costs the same (within {EQUAL_COST:.0%}) as {', '.join(names)}")
    return Comparison(tuple(judged), stage, cost, tuple(notes))


def _runs_at(path: Path) -> list[Path]:
    """The run at `path`, or the runs in it, `joint-2` before `joint-10`."""
    if path.is_file():
        raise ConfigError(f"{path} is a file: a comparison takes runs, or folders of runs")
    if not path.is_dir():
        raise ConfigError(f"{path} does not exist: expected a run of `skdn search`, or a folder of runs")
    if (path / "config.json").exists():
        return [path]
    found = [folder for folder in path.iterdir() if (folder / "config.json").is_file()]
    if not found:
        raise ConfigError(
            f"{path} is not a run and holds none: it has no config.json; `skdn search --out {path}` makes one"
        )
    return sorted(found, key=lambda folder: _natural(folder.name))


def _natural(name: str) -> list[str]:
    """Sorts numbers by value."""
    return [part.zfill(12) if part.isdecimal() else part for part in re.split(r"(\d+)", name)]


def _cost_axis(records: list[RunRecord]) -> str:
    targets = {
        cost for cost in COSTS for r in records if r.settings.get("structure", {}).get(f"target_{cost}")
    }
    return next((c for c in ("latency_ms", "macs_per_mp", "parameters") if c in targets), "macs_per_mp")


def _entry(record: RunRecord, name: str, stage: str) -> Entry:
    structure, net = record.settings.get("structure", {}), record.settings.get("net", {})
    best = record.stages[stage].best or {}
    found = genes(record.genotype) if record.genotype else None
    undecided = record.search.latest("undecided")
    seconds = [s.seconds for s in _until(record, stage) if s.seconds]
    return Entry(
        name=name,
        path=record.path,
        preset=record.settings.get("preset", ""),
        type=structure.get("type", ""),
        mode=structure.get("mode", ""),
        arch=net.get("arch", ""),
        seed=record.header.get("seed", 0),
        **{cost: _cost(record, cost) for cost in COSTS},
        expected=not record.genotype,
        **{key: _number(best.get(key)) for key in ("psnr_db", "psnr_ensemble_db", "psnr_noisy_db", "ssim")},
        undecided=undecided if found is None else sum(gene.undecided for gene in found),
        superkernels=None if found is None else len(found),
        seconds=sum(seconds) or None,
    )


def _until(record: RunRecord, stage: str) -> list[StageRecord]:
    return [record.search] if stage == "search" else [record.search, record.finetune]


def _cost(record: RunRecord, cost: str) -> float | None:
    """Of the network found; before there is one, what the search last expected."""
    return _number((record.genotype or {}).get(cost)) or _number(record.search.latest(cost))


def _number(value: Any) -> float | None:
    return value if is_number(value) else None


def _without(settings: dict[str, Any], *names: str) -> str:
    return json.dumps({k: v for k, v in settings.items() if k not in names}, sort_keys=True)


def _group_name(entries: list[Entry], taken: list[str]) -> str:
    """joint for joint-0 and joint-1; else the runs' names."""
    if len(entries) == 1:
        return entries[0].name
    stems = {entry.name.removesuffix(f"-{entry.seed}") for entry in entries}
    stem = stems.pop()
    return stem if not stems and stem not in taken else ", ".join(entry.name for entry in entries)


def _group(name: str, entries: list[Entry]) -> Group:
    keys = (*COSTS, "psnr_db", "psnr_ensemble_db", "ssim")
    spreads = {key: _spread([getattr(entry, key) for entry in entries]) for key in keys}
    return Group(name, entries[0].type, tuple(entries), **spreads)


def _spread(values: Sequence[float | None]) -> Spread | None:
    known = [value for value in values if value is not None]
    if not known:
        return None
    return Spread(fmean(known), stdev(known) if len(known) > 1 else None, len(known))


def _gains(group: Group, rivals: list[Group], cost: str, alone: dict[str, list[str]]) -> tuple[Gain, ...]:
    """Over the nearest baseline of each kind; a group that has none of equal cost joins `alone`."""
    price = getattr(group, cost)
    if group.type in BASELINES or price is None or group.psnr_db is None:
        return ()
    gains = []
    for kind, unmatched in alone.items():
        ratios = [
            (price.mean / getattr(rival, cost).mean, rival)
            for rival in rivals
            if rival.type == kind and getattr(rival, cost) and rival.psnr_db
        ]
        if not ratios:
            continue
        ratio, rival = min(ratios, key=lambda pair: abs(pair[0] - 1))
        if abs(ratio - 1) <= EQUAL_COST:
            gains.append(Gain(rival.name, kind, _difference(group, rival), ratio))
        else:
            unmatched.append(group.name)
    return tuple(gains)


def _difference(group: Group, rival: Group) -> Spread:
    """Paired by seed where that can be done: runs of one seed share their data, so it cancels."""
    of, over = ({e.seed: e.psnr_db for e in g.entries if e.psnr_db is not None} for g in (group, rival))
    if of.keys() == over.keys():
        paired = _spread([psnr - over[seed] for seed, psnr in of.items()])
        assert paired
        return paired
    assert group.psnr_db
    assert rival.psnr_db
    stds = [spread.std or 0.0 for spread in (group.psnr_db, rival.psnr_db)]
    together = (stds[0] ** 2 + stds[1] ** 2) ** 0.5
    return Spread(group.psnr_db.mean - rival.psnr_db.mean, together or None, min(len(of), len(over)))


def _on_front(group: Group, groups: list[Group], cost: str) -> bool:
    def point(of: Group) -> tuple[float, float] | None:
        spread = getattr(of, cost)
        return (spread.mean, -of.psnr_db.mean) if spread and of.psnr_db else None

    mine = point(group)
    others = [p for p in map(point, groups) if p is not None]
    return mine is not None and not any(p != mine and p[0] <= mine[0] and p[1] <= mine[1] for p in others)


def _notes(groups: list[Group], tuned: list[RunRecord], validated: int) -> list[str]:
    notes = []
    entries = [entry for group in groups for entry in group.entries]
    noisy = [entry.psnr_noisy_db for entry in entries if entry.psnr_noisy_db is not None]
    if noisy and max(noisy) - min(noisy) > 0.005:
        notes.append(
            f"the runs were validated on different patches (noisy input {min(noisy):.2f} to {max(noisy):.2f} "
            "dB), so PSNR and its spread hold the data's too; gains pair runs of one seed"
        )
    if tuned:
        notes.append(
            f"PSNR is the searched networks': {len(tuned)} of {validated} runs are fine-tuned, and "
            "`skdn finetune` brings the others as far"
        )
    if any(entry.expected and entry.macs_per_mp is not None for entry in entries):
        notes.append("~ marks the cost that a search expects; `skdn distil` gives the network's")
    return notes
