"""Denoised blocks in the files that the benchmarks take.

SIDD, .mat: what its MATLAB kit (SIDD_Benchmark_Code_v1.1, SIDD_Denoise.m and DenoiseRaw.m) saves as
SubmitRaw.mat: `DenoisedBlocksRaw`, a cell {frame, block} of single [256,256]; `TimeMPRaw`, seconds for 1024²
pixels; the struct `OptionalData`. Here in MATLAB's version 5, which `load` reads as it does the kit's 7.3.
SIDD, .csv: what the benchmark's Python kit writes as SubmitRaw.csv for its Kaggle page: ID from 0, and BLOCK,
the block's singles row by row in base 64.
SIDD+, .mat: the NTIRE 2020 kit's results.mat: `results`, single [1024,256,256].
"""

from __future__ import annotations

import base64
import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sk_deploy.errors import ConfigError
from sk_deploy.whole import check_place, whole

from .benchmark import ENSEMBLE, SINGLE, Evaluation
from .eval_set import EvalSet
from .sidd_blocks import BLOCKS_A_FRAME


def check_submission(path: Path, eval_set: EvalSet, *, force: bool) -> None:
    """Before hours of denoising. Raises ConfigError for a name or place that will not do."""
    suffixes = (".mat",) if _is_plus(eval_set) else (".mat", ".csv")
    if path.suffix not in suffixes:
        raise ConfigError(f"{path}: expected a name that ends in {' or '.join(suffixes)}")
    check_place(path, force=force)


def write_submission(
    path: Path, eval_set: EvalSet, blocks: Sequence[NDArray[np.float32]], evaluation: Evaluation
) -> None:
    """Write the denoised blocks [H,W] of a set, in its order, clipped to [0,1]."""
    clipped = np.clip(np.stack(blocks), 0, 1).astype(np.float32)  # [N,H,W]
    if path.suffix == ".csv":
        _write_csv(path, clipped)
    elif _is_plus(eval_set):
        _write_mat(path, {"results": clipped})
    else:
        cells = np.empty((len(clipped) // BLOCKS_A_FRAME, BLOCKS_A_FRAME), object)
        for index, block in enumerate(clipped):
            cells[divmod(index, BLOCKS_A_FRAME)] = block
        s_per_mp = evaluation.s_per_mp(ENSEMBLE) or evaluation.s_per_mp(SINGLE) or 0.0
        described = {
            "MethodName": evaluation.model,
            "Authors": "",
            "PaperTitle": "",
            "Venue": "",
            "MachineSpecs": evaluation.provider,
        }
        _write_mat(
            path,
            {
                "DenoisedBlocksRaw": cells,
                "TimeMPRaw": s_per_mp * 1024**2 / 1e6,
                "OptionalData": described,
            },
        )


def _is_plus(eval_set: EvalSet) -> bool:
    return eval_set.blocks is not None and eval_set.blocks.sidd_plus


def _write_mat(path: Path, content: dict[str, Any]) -> None:
    import scipy.io

    with whole(path) as temporary, temporary.open("wb") as file:
        scipy.io.savemat(file, content)


def _write_csv(path: Path, blocks: NDArray[np.float32]) -> None:
    with whole(path) as temporary, temporary.open("w", encoding="ascii", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("ID", "BLOCK"))
        for index, block in enumerate(blocks):
            writer.writerow((index, base64.b64encode(block.tobytes()).decode("ascii")))
