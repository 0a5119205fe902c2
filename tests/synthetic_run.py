"""Runs that no search has made: the files of a run directory, with plausible numbers, for what reads them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np


def superkernel_names(depth: int, blocks: int) -> list[str]:
    """In the order a network registers its modules, which is not the order that data takes."""
    levels = [f"{side}.{n}" for side in ("encoder", "decoder") for n in range(depth)]
    return [f"{level}.{b}.conv{c}" for level in (*levels, "bottom") for b in range(blocks) for c in (1, 2)]


def make_genotype(
    widths: tuple[int, ...] = (16, 32, 48, 64), blocks: int = 1, seed: int = 0
) -> dict[str, Any]:
    """A genotype with all kernel sizes, a scattered choice of filters, and one undecided superkernel."""
    rng = np.random.default_rng(seed)
    kernels, entries = [3, 5, 7], []
    for index, name in enumerate(superkernel_names(len(widths) - 1, blocks)):
        level = int(name.split(".")[1]) if not name.startswith("bottom") else len(widths) - 1
        width = widths[level]
        kept = max(4, width * int(rng.integers(1, 5)) // 4)
        filters = sorted(rng.choice(width, kept, replace=False).tolist()) if index == 1 else list(range(kept))
        sharp = rng.dirichlet([0.05] * 3) * 0.9 + 0.033
        entries.append(
            {
                "name": name,
                "kernel": kernels[int(sharp.argmax())],
                "kernels": kernels,
                "filters": filters,
                "max_filters": width,
                "probability": 0.41 if index == 3 else float(sharp.max()),
                "entropy": 0.72 if index == 3 else float(rng.uniform(0, 0.4)),
                "kernel_probabilities": (sharp / sharp.sum()).tolist(),
            }
        )
    return {
        "schema": 1,
        "arch": "skipinit-unet",
        "type": "joint",
        "mode": "full",
        "net": {"widths": list(widths), "depth": len(widths) - 1, "blocks": blocks},
        "superkernels": entries,
        "macs_per_mp": 7.1e9,
        "parameters": 412_345,
    }


def search_rows(genotype: dict[str, Any], steps: int = 20_000, seed: int = 0) -> list[dict[str, Any]]:
    """Records of a search that converges to `genotype`."""
    rng, rows = np.random.default_rng(seed), []
    for step in range(200, steps + 1, 200):
        t = step / steps
        share = 1 / (1 + np.exp(-9 * (t - rng.uniform(0.42, 0.48))))
        kernels, widths = {}, {}
        for gene in genotype["superkernels"]:
            p = (1 - share) / 3 + share * np.array(gene["kernel_probabilities"])
            kernels[gene["name"]] = p.tolist()
            widths[gene["name"]] = 0.6 * gene["max_filters"] * (1 - share) + share * len(gene["filters"])
        base = {"stage": "search", "step": step, "steps": steps}
        rows.append(
            {
                **base,
                "kind": "train",
                "loss": -5 - 4 * (1 - np.exp(-6 * t)) + rng.normal(0, 0.15),
                "temperature": 5 * (0.02**t),
                "entropy": float(1 - 0.9 * share),
                "patches_per_s": 120.0,
                "macs_per_mp": 1.2e10 - 4.7e9 * share,
                "multipliers": {"macs_per_mp": 0.3 * t},
                "kernels": kernels,
                "widths": widths,
                "uses": {name: (np.array(p) * 1e4 + step).tolist() for name, p in kernels.items()},
                "undecided": int(np.ceil(len(kernels) * (1 - share))),
            }
        )
        if step % 1000 == 0:
            psnr = 30 + 8.1 * (1 - np.exp(-7 * t)) + rng.normal(0, 0.05)
            facts = {**scores(psnr), "seconds": 3120.0 * t, "finished": step == steps}
            rows.append({**base, "kind": "validation", **facts})
    return rows


def finetune_rows(steps: int = 10_000) -> list[dict[str, Any]]:
    rows = []
    for step in range(200, steps + 1, 200):
        base = {"stage": "finetune", "step": step, "steps": steps}
        rows.append({**base, "kind": "train", "loss": -9.1 - step / steps / 5, "patches_per_s": 300.0})
        if step % 1000 == 0:
            facts = {**scores(38.2 + 0.3 * step / steps), "seconds": step / 8, "finished": step == steps}
            rows.append({**base, "kind": "validation", **facts})
    return rows


def scores(psnr_db: float) -> dict[str, float]:
    return {
        "psnr_db": float(psnr_db),
        "psnr_ensemble_db": float(psnr_db) + 0.18,
        "psnr_noisy_db": 30.0,
        "ssim": 0.951,
    }


def make_run(folder: Path, parts: str = "search genotype finetune parity", **genotype: Any) -> Path:
    """A run directory that has come as far as `parts` says."""
    folder.mkdir(parents=True, exist_ok=True)
    found = make_genotype(**genotype)
    settings = {
        "preset": "compact",
        "data": ["dead-leaves"],
        "net": {"arch": "skipinit-unet", **found["net"]},
        "structure": {"type": "joint", "mode": "full", "target_macs_per_mp": 7.5e9},
        "search": {"steps": 20_000, "patience": 30},
        "finetune": {"steps": 10_000, "patience": 30},
    }
    header = {
        "schema": 1,
        "seed": 17,
        "commit": "0123456789ab",
        "versions": {"torch": "2.8.0"},
        "config": settings,
    }
    write(folder / "config.json", json.dumps(header))
    if "search" in parts:
        write(folder / "metrics.jsonl", lines(search_rows(found)))
    if "genotype" in parts:
        write(folder / "genotype.json", json.dumps(found))
    if "finetune" in parts:
        write(folder / "finetuned" / "metrics.jsonl", lines(finetune_rows()))
    if "parity" in parts:
        parity = {"supernet_distilled_float32": 3.1e-7, "torch_onnx": 2e-4}
        parity["limits"] = dict.fromkeys(parity, 1e-5)
        parity["model"] = "models/night.onnx"
        write(folder / "export" / "parity.json", json.dumps(parity))
    return folder


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def lines(rows: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)
