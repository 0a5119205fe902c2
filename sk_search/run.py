"""The run directory: what is in it, and how it is written so that a crash never leaves half a file.

config.json       resolved configuration, seed, versions, git commit
metrics.jsonl     one JSON object a line
last.pt           everything that a bit-exact resume needs
best.safetensors  the best weights by validation
lut.json          latency table, where the search has a target in milliseconds
genotype.json     what the search chose
distilled/        best.safetensors of the network cut out of the supernet
finetuned/        that network trained on, perhaps with a teacher; config.json, metrics.jsonl, last.pt and
                  best.safetensors of its own
ensembled/        the fine-tuned network trained on by its own self-ensemble; the same files. Optional
export/ report.html, TensorBoard events

A later stage starts from an earlier one and never touches its files; `skdn export` takes the last there is.
"""

from __future__ import annotations

import importlib.metadata
import json
import platform
import subprocess
from pathlib import Path
from typing import Any

from sk_deploy.errors import ConfigError
from sk_deploy.whole import whole

from .config import RunConfig
from .lut import LatencyTable
from .record import SCHEMA, read_header, read_object


def write_json(path: Path, facts: object) -> None:
    """Indented JSON, whole or not at all."""
    text = json.dumps(facts, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    with whole(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def claim_folder(folder: Path) -> None:
    """Make the folder of a new run. ConfigError if a run is there already, or it cannot be made."""
    if (folder / "config.json").exists():
        raise ConfigError(f"{folder} holds a run already: continue it with --resume, or choose another --out")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{folder} cannot be made ({error.strerror}): choose another --out") from error


def create_run(folder: Path, config: RunConfig) -> None:
    """Write what makes the folder a run: its configuration."""
    write_json(
        folder / "config.json",
        {
            "schema": SCHEMA,
            "seed": config.seed,
            "versions": _versions(),
            "commit": _commit(),
            "config": config.to_dict(),
        },
    )


def load_config(folder: Path) -> RunConfig:
    """The configuration of a run. ConfigError in one line when `folder` is not a run."""
    return RunConfig.from_dict(read_header(folder)["config"])


def load_table(folder: Path) -> LatencyTable | None:
    """The latency table that a run searches with; None where it has none. ConfigError for a damaged one."""
    path = folder / "lut.json"
    return LatencyTable.read(path) if path.is_file() else None


def load_genotype(folder: Path) -> dict[str, Any]:
    """The genotype of a run. ConfigError when the search has not written one."""
    genotype = read_object(folder / "genotype.json")
    if genotype is None:
        raise ConfigError(f"{folder} has no genotype.json: `skdn distil {folder}` writes it from a search")
    return genotype


def _versions() -> dict[str, str]:
    names = ("skdn", "torch", "numpy", "onnx")
    return {"python": platform.python_version(), **{name: importlib.metadata.version(name) for name in names}}


def _commit() -> str | None:
    """The commit of the source checkout, if this is one."""
    here = Path(__file__).parent
    try:
        out = subprocess.run(
            ["git", "-C", str(here), "describe", "--always", "--dirty", "--abbrev=12"],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return out.stdout.strip()
