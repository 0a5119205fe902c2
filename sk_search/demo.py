"""`skdn demo`: the whole promise in minutes, on data that needs no download.

Search a tiny network on dead leaves, distil, fine-tune, export; render a scene that no training saw, write it
as a noisy DNG, and denoise that file as a photographer would.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from sk_deploy import Denoiser, NoiseProfile, read_raw, write_dng
from sk_deploy.batch import Options, denoise_files
from sk_deploy.errors import ConfigError, SkdnError
from sk_deploy.inputs import Job
from sk_deploy.whole import whole

from .config import MosaicConfig, NoiseConfig
from .dead_leaves import dead_leaves
from .evaluate import psnr_db, ssim
from .export import export
from .mosaics import sample_mosaics
from .noise_synthesis import add_noise
from .pictures import develop_alike, side_by_side
from .presets import tiny
from .search import search

NOISE = NoiseProfile(shot=1e-2, read=1e-4)
"""A small sensor at night."""
_SIDE_PX = 768
_SHOWN_PX = 320


@dataclass(frozen=True)
class DemoResult:
    """What the demo measured, and where things are."""

    psnr_db: dict[str, float]
    """"noisy", "denoised", "with self-ensemble"."""
    ssim: dict[str, float]
    model: Path
    report: Path
    picture: Path


def demo(folder: Path, report: Callable[[dict[str, Any]], None] = lambda record: None) -> DemoResult:
    """Run the demo in `folder`. ConfigError unless that is new or empty."""
    if folder.exists() and any(folder.iterdir()):
        raise ConfigError(f"{folder} is not empty: choose another --out")
    run, model = folder / "run", folder / "model.onnx"
    search(run, tiny(), report)
    export(run, model, name="demo", licence="CC0-1.0", report=report)
    noisy_dng, clean = _photograph(folder)
    mosaics = {"noisy": read_raw(noisy_dng).mosaic}
    denoiser = Denoiser.from_file(model)
    for label, ensemble in (("denoised", False), ("with self-ensemble", True)):
        target = folder / ("ensemble.dng" if ensemble else "denoised.dng")
        for result in denoise_files(denoiser, [Job(noisy_dng, target)], Options(ensemble=ensemble)):
            if result.status != "done":
                raise SkdnError(result.message)
        mosaics[label] = read_raw(target).mosaic
    truth = torch.from_numpy(clean)[None, None]
    tensors = {label: torch.from_numpy(mosaic)[None, None] for label, mosaic in mosaics.items()}
    shown = {label: m[:_SHOWN_PX, :_SHOWN_PX] for label, m in {**mosaics, "clean": clean}.items()}
    picture = folder / "before_after.png"
    _, png = cv2.imencode(".png", side_by_side(develop_alike(shown, "clean"))[..., ::-1])
    with whole(picture) as path:
        path.write_bytes(png.tobytes())
    return DemoResult(
        psnr_db={label: float(psnr_db(x, truth)) for label, x in tensors.items()},
        ssim={label: ssim(x, truth) for label, x in tensors.items()},
        model=model,
        report=run / "report.html",
        picture=picture,
    )


def _photograph(folder: Path) -> tuple[Path, np.ndarray[Any, np.dtype[np.float32]]]:
    """A noisy DNG of a scene that training never saw, and the clean mosaic [H,W]."""
    generator = torch.Generator().manual_seed(2020)
    scene = dead_leaves(1, _SIDE_PX, seed=2020).float()
    camera = MosaicConfig(patch_px=_SIDE_PX, blur_fraction=1.0, blur_px=(0.7, 0.7), unscaled_share=1.0)
    clean = sample_mosaics(scene, 1, generator, camera)
    sensor = replace(NoiseConfig(), unquantised_share=1.0, row_share=0.0, hot_share=0.0)
    noisy = add_noise(clean, torch.tensor([[NOISE.shot, NOISE.read]]), generator, sensor)
    array = folder / "noisy.npy"
    np.save(array, noisy[0, 0].numpy())
    raw = read_raw(array, pattern="RGGB")
    target = folder / "noisy.dng"
    write_dng(raw, raw.mosaic, target, noise=NOISE, strength=0.0, software="skdn demo")
    array.unlink()
    return target, clean[0, 0].numpy()
