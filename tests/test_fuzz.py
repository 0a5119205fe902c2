"""Damaged and hostile files through `denoise_files`, as production runs it: the decoder in its worker.

Every case ends in one line, or in an output that LibRaw reopens (skdn, where it is BigTIFF, which LibRaw does
not read). Nothing takes ten seconds, no original changes, and nothing appears but the outputs.
"""

from __future__ import annotations

import random
import warnings
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import onnx_models as models
import pytest
from mutations import Seed, mutate, plain_seeds, raw_seeds

from sk_deploy.batch import Options, denoise_files
from sk_deploy.denoiser import Denoiser
from sk_deploy.inputs import Job

SLOWEST_S = 10
ALL_CASES = 20_000


def test_a_few_hundred(tmp_path: Path) -> None:
    outcomes = fuzz(tmp_path, seed=0, cases=400)
    assert outcomes["done"] > 40
    assert outcomes["refused"] > 100


@pytest.mark.slow
def test_twenty_thousand(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    outcomes = fuzz(tmp_path, seed=1, cases=ALL_CASES, more=camera_seeds())
    with capsys.disabled():
        print(*(f"\n{count:7} {outcome}" for outcome, count in outcomes.most_common(40)))
    assert outcomes["done"] + outcomes["refused"] == ALL_CASES


def camera_seeds() -> list[Seed]:
    """Small files of real cameras, where the shared data are: formats that only LibRaw decodes."""
    folder = Path(__file__).parents[1].parent / "shared/data/raw"
    return [Seed(path.suffix, path.read_bytes()) for path in sorted(folder.glob("*.kdc"))]


def fuzz(folder: Path, seed: int, cases: int, more: Sequence[Seed] = ()) -> Counter[str]:
    """Denoise `cases` damaged files with a network that changes nothing, and count the outcomes."""
    denoiser = Denoiser.from_file(models.identity(folder / "model.onnx"), "cpu")
    rng, outcomes = random.Random(seed), Counter[str]()
    (folder / "seeds").mkdir()
    kinds = [([*raw_seeds(folder / "seeds"), *more], None, 3), (plain_seeds(folder / "seeds"), "RGGB", 1)]
    with ProcessPoolExecutor(1, get_context("spawn")) as reader:
        for number in range(0, cases, 100):
            for seeds, pattern, quarters in kinds:
                some = folder / f"{number}{pattern}"
                some.mkdir()
                outcomes += _batch(some, denoiser, seeds, pattern, rng, quarters * 25, reader)
    return outcomes


def _batch(
    folder: Path,
    denoiser: Denoiser,
    seeds: list[Seed],
    pattern: str | None,
    rng: random.Random,
    cases: int,
    reader: ProcessPoolExecutor,
) -> Counter[str]:
    originals, jobs = {}, []
    for number in range(cases):
        seed = rng.choice(seeds)
        path = folder / f"{number}{seed.suffix}"
        originals[path] = mutate(seed, rng)
        path.write_bytes(originals[path])
        jobs.append(Job(path, folder / "out" / f"{number}.dng"))
    outcomes, outputs = Counter[str](), set()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for result in denoise_files(denoiser, jobs, Options(pattern=pattern)):
            case = f"{result.source}: {result.message}"
            assert "\n" not in result.message, case
            assert result.decode_s + result.denoise_s + result.write_s < SLOWEST_S, case
            if result.status == "done":
                outputs.add(result.target)
                outcomes["done"] += 1
                assert reader.submit(_reopens, result.target).result(SLOWEST_S) == "", case
            else:
                outcomes["refused"] += 1
                outcomes[f"refused: {_kind(result.message)}"] += 1
                assert "Error:" not in result.message, case
                assert "cannot be decoded (" not in result.message, case
    assert {path: path.read_bytes() for path in originals} == originals
    assert {path for path in folder.rglob("*") if path.is_file()} == {*originals, *outputs}
    return outcomes


def _reopens(path: Path) -> str:
    """What keeps an output from being read again; runs in a process of its own."""
    import numpy as np
    import rawpy

    from sk_deploy.raw import read_raw

    try:
        stored = read_raw(path).stored
        if path.read_bytes()[2:4] in (b"+\0", b"\0+"):
            return ""
        with rawpy.imread(str(path)) as libraw:
            found = libraw.raw_image
            return "" if np.array_equal(found, stored) else f"LibRaw sees {found.shape}, other pixels"
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def _kind(message: str) -> str:
    """A message without the names and numbers of its file."""
    words = message.split(": ", 1)[-1].split(" (")[0].split()
    return " ".join(word for word in words if word.isascii() and word.isalpha())[:60]
