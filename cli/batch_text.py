"""What `skdn denoise` prints: a line a file, and a table of them all."""

from __future__ import annotations

from collections.abc import Sequence

from sk_deploy.batch import Result
from sk_deploy.noise import NEXT_TO_NONE

_NOISE_SOURCES = {
    "given": "given",
    "file": "from the file's NoiseProfile",
    "camera profile": "from darktable's profile of the camera",
    "estimate": "estimated",
}


def line(result: Result) -> str:
    """What was done to one file, or why nothing."""
    if result.status != "done":
        return result.message
    if result.noise is None:
        noise = "a blind model"
    else:
        level = f"{result.noise.shot:.3g},{result.noise.read:.3g}"
        noise = f"noise {level} {_NOISE_SOURCES[result.noise_source]}"
        if result.noise_source == "estimate" and result.noise.shot + result.noise.read < NEXT_TO_NONE:
            noise += ", less than any camera's: denoised before?"
    mended = f", {result.defects} hot or dead pixels mended" if result.defects else ""
    return (
        f"{result.target}: {result.megapixels:.1f} MP in {result.denoise_s:.2f} s "
        f"({result.mp_per_s:.2f} MP/s, {result.model} on {result.provider}), {noise}{mended}"
    )


def table(results: Sequence[Result], total_s: float) -> str:
    """How many files came to what, how long each step took, and what failed."""
    rows = [f"{'':<8}{'files':>7}{'MP':>9}{'decode s':>10}{'denoise s':>11}{'write s':>9}"]
    for status in ("done", "skipped", "failed"):
        of_it = [result for result in results if result.status == status]
        if not of_it:
            continue
        row = f"{status:<8}{len(of_it):>7}"
        if status == "done":
            row += f"{sum(one.megapixels for one in of_it):>9.1f}"
            row += f"{sum(one.decode_s for one in of_it):>10.1f}{sum(one.denoise_s for one in of_it):>11.1f}"
            row += f"{sum(one.write_s for one in of_it):>9.1f}"
        rows.append(row)
    megapixels = sum(result.megapixels for result in results)
    rate = f", {megapixels / total_s:.2f} MP/s" if megapixels else ""
    rows.append(f"{'all':<8}{len(results):>7}{megapixels:>9.1f}  in {total_s:.1f} s{rate}")
    rows += [f"failed: {result.message}" for result in results if result.status == "failed"]
    return "\n".join(rows)
