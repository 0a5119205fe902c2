"""Which files a command line means, and where outputs go: never onto an original or onto one another."""

from __future__ import annotations

import glob
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

RAW_SUFFIXES = frozenset(
    f".{name}"
    for name in (
        *("3fr", "arw", "cr2", "cr3", "crw", "dcr", "dng", "erf", "fff", "iiq", "k25", "kdc", "mef", "mos"),
        *("mrw", "nef", "nrw", "orf", "pef", "raf", "raw", "rw2", "rwl", "sr2", "srf", "srw", "x3f"),
    )
)
"""What a folder is searched for. A file that is named outright may have any suffix."""
DENOISED = "_denoised"
"""What is added to a name when the output lies beside the original."""


@dataclass(frozen=True)
class Job:
    """One input file and its output."""

    source: Path
    target: Path
    problem: str = ""
    """Why it cannot be done, where that shows without opening the file."""


def find_jobs(inputs: Iterable[str | Path], out: Path | None = None) -> list[Job]:
    """The work that files, folders (with their sub-folders) and glob patterns stand for.

    Without `out`, a/shot.nef becomes a/shot_denoised.dng. With it, `photos` or `photos/**/*.nef` keep names
    and sub-folders under `out`. Hidden files, earlier outputs beside their originals, and `out` itself are
    left out. Sources that differ only in suffix keep it in the output's name; where outputs would still meet,
    or hit an original, the job has a problem. So have an input without a raw file and an unwritable folder.
    """
    jobs: dict[Path, Job] = {}
    for given in inputs:
        found = False
        for source, root in _sources(given, out):
            found = True
            jobs.setdefault(source.resolve(), Job(source, _target(source, root, out)))
        if not found:
            folder = Path(given)
            jobs[folder.resolve()] = Job(folder, folder, f"{given}: no raw file found")
    return _checked(_named_apart(_without_outputs(list(jobs.values())), beside=out is None))


def _sources(given: str | Path, out: Path | None) -> Iterator[tuple[Path, Path]]:
    """Files with the folder that their sub-folders count from. A missing file counts: opening it tells."""
    path = Path(given)
    if path.is_dir():
        yield from ((file, path) for file in _walk(path, out))
    elif path.exists() or not glob.has_magic(str(given)):
        yield path, path.parent
    else:
        parts = path.parts
        root = Path(*parts[: next(i for i, part in enumerate(parts) if glob.has_magic(part))])
        below = str(path.relative_to(root))
        for match in sorted(root.glob(below)):
            if match.is_file() and _is_original(match):
                yield match, root


def _walk(folder: Path, out: Path | None) -> Iterator[Path]:
    skipped = out.resolve() if out is not None and out.resolve() != folder.resolve() else None
    for parent, folders, files in os.walk(folder):
        folders[:] = sorted(
            name for name in folders if name[0] != "." and (Path(parent) / name).resolve() != skipped
        )
        for name in sorted(files):
            path = Path(parent) / name
            if path.suffix.lower() in RAW_SUFFIXES and _is_original(path):
                yield path


def _is_original(path: Path) -> bool:
    """Neither hidden (a partial output is) nor the result of an earlier run."""
    return not path.name.startswith(".") and not path.stem.endswith(DENOISED)


def _target(source: Path, root: Path, out: Path | None) -> Path:
    folder = source.parent if out is None else (out / source.relative_to(root)).parent
    return folder / _name(source, beside=out is None)


def _name(source: Path, *, beside: bool, keep_suffix: bool = False) -> str:
    """An output's name, beside its original or in a folder of outputs."""
    mark = f"_{source.suffix[1:].lower()}" if keep_suffix else ""
    if beside:
        return f"{source.stem}{mark}{DENOISED}.dng"
    return f"{source.stem}{mark}{source.suffix if _is_dng(source) else '.dng'}"


def _is_dng(path: Path) -> bool:
    return path.suffix.lower() == ".dng"


def _without_outputs(jobs: list[Job]) -> list[Job]:
    """Drop shot_denoised.dng where shot.dng is given too, as by a shell's *.dng after an earlier run."""
    outputs = {
        job.source.with_name(_name(job.source, beside=True, keep_suffix=keep_suffix))
        for job in jobs
        for keep_suffix in (False, True)
    }
    return [job for job in jobs if job.source not in outputs]


def _named_apart(jobs: list[Job], *, beside: bool) -> list[Job]:
    """shot.nef with shot.dng becomes shot_nef_denoised.dng."""
    uses = Counter(job.target for job in jobs)
    return [
        replace(job, target=job.target.with_name(_name(job.source, beside=beside, keep_suffix=True)))
        if uses[job.target] > 1 and not _is_dng(job.source)
        else job
        for job in jobs
    ]


def _checked(jobs: list[Job]) -> list[Job]:
    """Find the outputs that would overwrite something, or that have nowhere to go."""
    originals = {job.source.resolve() for job in jobs}
    owners: dict[Path, Path] = {}
    checked = []
    for job in jobs:
        target = job.target.resolve()
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
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    if not folder.is_dir():
        return f"{folder}: a file, expected a folder to write to: choose another --out"
    if not os.access(folder, os.W_OK | os.X_OK):
        return f"{folder}: no permission to write there: choose another --out"
    return ""
