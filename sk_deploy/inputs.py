"""What a command line means: one job a file, its output never onto an original or onto another's."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from .folders import DENOISED, find_files


@dataclass(frozen=True)
class Job:
    """One input file and its output."""

    source: Path
    target: Path
    problem: str = ""
    """Why it cannot be done, where that shows without opening the file."""


def find_jobs(
    inputs: Iterable[str | Path], out: Path | None = None, form: str = "dng", *, plain: bool = False
) -> list[Job]:
    """The work that files, folders (`folders.find_files`) and glob patterns stand for.

    Without `out`, a/shot.nef becomes a/shot_denoised.dng, `form` being the suffix of outputs. With it,
    `photos` or `photos/**/*.nef` keep names and sub-folders under `out`. A file that links lead to again is
    done once.
    Outputs that would meet take the source's suffix into their names, and then lie in folders named like the
    sources'. Where they meet still, or hit an original, the job has a problem. So have an input without a raw
    file, a folder that cannot be searched and one that cannot be written to.
    """
    jobs: dict[str, Job] = {}
    for given in inputs:
        found = False
        for file in find_files(given, out, plain=plain):
            found = True
            job = Job(file.path, _target(file.path, file.root, out, form), file.problem)
            known = jobs.setdefault(os.path.realpath(job.source), job)
            if known.source.is_symlink() and not job.source.is_symlink():
                jobs[os.path.realpath(job.source)] = job
        if not found:
            nothing = Path(given)
            jobs[os.path.realpath(nothing)] = Job(nothing, nothing, f"{given}: no raw file found")
    named = _named_apart(_without_outputs(list(jobs.values())), form, beside=out is None)
    return _checked(named if out is None else _kept_apart(named, out))


def _target(source: Path, root: Path, out: Path | None, form: str) -> Path:
    folder = source.parent if out is None else (out / source.relative_to(root)).parent
    return folder / _name(source, form, beside=out is None)


def _name(source: Path, form: str, *, beside: bool, keep_suffix: bool = False) -> str:
    """An output's name, beside its original or in a folder of outputs."""
    mark = f"_{source.suffix[1:].lower()}" if keep_suffix else ""
    if beside:
        return f"{source.stem}{mark}{DENOISED}.{form}"
    return f"{source.stem}{mark}{source.suffix if _is_dng(source) and form == 'dng' else f'.{form}'}"


def _is_dng(path: Path) -> bool:
    return path.suffix.lower() == ".dng"


def _without_outputs(jobs: list[Job]) -> list[Job]:
    """Drop shot_denoised.dng where shot.dng is given too, as by a shell's *.dng after an earlier run."""
    outputs = {
        job.source.with_name(f"{job.source.stem}{mark}{DENOISED}")
        for job in jobs
        for mark in ("", f"_{job.source.suffix[1:].lower()}")
    }
    return [job for job in jobs if job.source.with_suffix("") not in outputs]


def _named_apart(jobs: list[Job], form: str, *, beside: bool) -> list[Job]:
    """shot.nef with shot.dng becomes shot_nef_denoised.dng."""
    uses = Counter(job.target for job in jobs)
    return [
        replace(job, target=job.target.with_name(_name(job.source, form, beside=beside, keep_suffix=True)))
        if uses[job.target] > 1 and not _is_dng(job.source)
        else job
        for job in jobs
    ]


def _kept_apart(jobs: list[Job], out: Path) -> list[Job]:
    """100CANON/shot.dng with 101CANON/shot.dng become out/100CANON/shot.dng and out/101CANON/shot.dng."""
    folders = defaultdict(set)
    for job in jobs:
        folders[job.target].add(job.source.absolute().parent)
    shared = {target: os.path.commonpath(those) for target, those in folders.items() if len(those) > 1}
    return [
        replace(job, target=out / job.source.absolute().parent.relative_to(root) / job.target.name)
        if (root := shared.get(job.target))
        else job
        for job in jobs
    ]


def _checked(jobs: list[Job]) -> list[Job]:
    """Find the outputs that would overwrite something, or that have nowhere to go."""
    originals = {os.path.realpath(job.source) for job in jobs}
    owners: dict[str, Path] = {}
    checked = []
    for job in jobs:
        target = os.path.realpath(job.target)
        owner = owners.setdefault(target, job.source)
        problem = job.problem
        if not problem and target in originals:
            problem = f"{job.source}: its output {job.target} is an original: choose another --out"
        elif not problem and owner != job.source:
            problem = f"{job.source}: its output {job.target} is also that of {owner}: run them apart"
        elif not problem:
            problem = _refusal(job.target.parent)
        checked.append(replace(job, problem=problem))
    return checked


def _refusal(folder: Path) -> str:
    """Why nothing can be written to a folder that exists or is to be made; empty when it can."""
    while not os.path.exists(folder) and folder != folder.parent:  # noqa: PTH110 (raises where none may enter)
        folder = folder.parent
    if not folder.is_dir():
        return f"{folder}: a file, expected a folder to write to: choose another --out"
    if not os.access(folder, os.W_OK | os.X_OK):
        return f"{folder}: no permission to write there: choose another --out"
    return ""
