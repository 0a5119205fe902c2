"""A run directory read back: configuration, genotype, metrics of both stages, parity.

Reads JSON only and imports no PyTorch, so `skdn show run/` answers at once.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sk_deploy.errors import ConfigError

SCHEMA = 1
"""Of a run directory."""

Rows = list[dict[str, Any]]
"""Records of a metrics.jsonl, by step."""


@dataclass(frozen=True)
class StageRecord:
    """What one stage of training, the search or the fine-tuning, has logged."""

    rows: Rows

    @property
    def best(self) -> dict[str, Any] | None:
        """The validation whose weights are kept: highest PSNR, those that meet the targets first."""
        rows = [row for row in self.rows if row["kind"] == "validation" and is_number(row.get("psnr_db"))]
        return max(rows, key=lambda row: (row.get("feasible", True), row["psnr_db"]), default=None)

    @property
    def step(self) -> int:
        """The last step logged."""
        return self.rows[-1]["step"] if self.rows else 0

    @property
    def steps(self) -> int:
        """The number of steps configured."""
        return self.rows[-1].get("steps", self.step) if self.rows else 0

    @property
    def seconds(self) -> float | None:
        """Time trained for, as the last validation says."""
        return next((row["seconds"] for row in reversed(self.rows) if is_number(row.get("seconds"))), None)

    @property
    def finished(self) -> bool:
        """Whether the stage came to its end, or to the end of its patience, as the last validation says."""
        validations = [row for row in self.rows if row["kind"] == "validation"]
        return bool(validations) and validations[-1].get("finished", False)

    def latest(self, key: str) -> Any:
        """What was logged last under `key` in training; None where it never was."""
        return next((r[key] for r in reversed(self.rows) if r["kind"] == "train" and key in r), None)

    def series(self, kind: str, key: str) -> tuple[list[int], list[float]]:
        """Steps and values of one logged quantity, without the steps where it is absent or not finite."""
        rows = [row for row in self.rows if row["kind"] == kind and is_number(row.get(key))]
        return [row["step"] for row in rows], [row[key] for row in rows]


@dataclass(frozen=True)
class RunRecord:
    """What a run has written so far; a part that is not there yet is None or empty."""

    path: Path
    header: dict[str, Any]
    """config.json: seed, versions, commit."""
    settings: dict[str, Any]
    """The resolved configuration in it."""
    genotype: dict[str, Any] | None
    search: StageRecord
    finetune: StageRecord
    ensembled: StageRecord
    """Fine-tuning under the teacher "self-ensemble"."""
    parity: dict[str, Any] | None
    """Comparison -> largest error; under "limits", comparison -> the largest error that passes."""

    @property
    def stages(self) -> dict[str, StageRecord]:
        """In the order they are trained."""
        return {"search": self.search, "finetune": self.finetune, "ensembled": self.ensembled}


def read_record(run: Path) -> RunRecord:
    """Read a run directory. Raises ConfigError for one that is missing, not a run, or damaged."""
    header = read_header(run)
    settings = header["config"]
    return RunRecord(
        path=run,
        header=header,
        settings=settings,
        genotype=read_object(run / "genotype.json"),
        search=StageRecord(_read_metrics(run / "metrics.jsonl")),
        finetune=StageRecord(_read_metrics(run / "finetuned" / "metrics.jsonl")),
        ensembled=StageRecord(_read_metrics(run / "ensembled" / "metrics.jsonl")),
        parity=read_object(run / "export" / "parity.json"),
    )


def is_number(value: object) -> bool:
    """Whether a logged value is there and finite."""
    return isinstance(value, int | float) and math.isfinite(value)


def duration(seconds: float) -> str:
    """Time for a reader: 40 s, 12 min, 1 h 05 min."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = int(seconds // 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def read_header(run: Path) -> dict[str, Any]:
    """config.json: schema, seed, versions, commit, and under "config" the resolved configuration.

    Raises ConfigError for what is not a run, one of another version, or a damaged one.
    """
    path = run / "config.json"
    header = read_object(path)
    if header is None:
        raise ConfigError(f"{run} is not a run: it has no config.json; `skdn search --out {run}` makes one")
    if header.get("schema") != SCHEMA:
        raise ConfigError(
            f"{path} has schema {header.get('schema')!r}, expected {SCHEMA}: use a matching skdn"
        )
    if not isinstance(header.get("config"), dict):
        raise ConfigError(f"{path} is damaged: it holds no configuration; start the run anew")
    return header


def read_object(path: Path) -> dict[str, Any] | None:
    """A file that holds one JSON object, None where there is no file. ConfigError for other content."""
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ConfigError(f"{path} is not JSON ({error}): restore it, or start the run anew") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path} holds {type(content).__name__}, expected an object: start the run anew")
    return content


def _read_metrics(path: Path) -> Rows:
    if not path.is_file():
        return []
    rows = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            continue  # half a line: the run is writing it, or was killed while it did
        if isinstance(row, dict) and "kind" in row and isinstance(row.get("step"), int):
            rows.append(row)
    return rows
