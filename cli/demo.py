"""`skdn demo`: the whole promise in minutes."""

from __future__ import annotations

import json
from pathlib import Path

import click


@click.command()
@click.option(
    "--out", type=click.Path(path_type=Path), help="Folder to work in.  [default: runs/<time>-demo]"
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.pass_context
def command(ctx: click.Context, out: Path | None, as_json: bool) -> None:
    """Search, export and denoise on embedded data; prints what it gained."""
    import time

    from sk_search.demo import demo

    from .training_progress import training_progress

    folder = out or Path("runs") / f"{time.strftime('%Y%m%d-%H%M%S')}-demo"
    started = time.monotonic()
    try:
        with training_progress() as report:
            result = demo(folder, report)
    except KeyboardInterrupt:
        click.echo("interrupted", err=True)
        ctx.exit(130)
    seconds = time.monotonic() - started
    if as_json:
        facts = {"psnr_db": result.psnr_db, "ssim": result.ssim, "seconds": seconds}
        paths = {name: str(getattr(result, name)) for name in ("model", "report", "picture")}
        click.echo(json.dumps(facts | paths))
        return
    for label, psnr_db in result.psnr_db.items():
        click.echo(f"{label:20s} {psnr_db:6.2f} dB   SSIM {result.ssim[label]:.4f}")
    click.echo(f"before/after  {result.picture}\nreport        {result.report}\nmodel         {result.model}")
    click.echo(f"{seconds:.0f} s; next: skdn denoise YOUR.dng --ensemble")
