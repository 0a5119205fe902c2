"""`skdn distil`: read the structure that a search learned, and cut the fixed network."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--round-to", type=click.IntRange(min=1), help="Filter counts become multiples of this.  [the run's]"
)
def command(run: Path, round_to: int | None) -> None:
    """Read the searched structure and cut the fixed network; undecided layers are named."""
    from sk_deploy.genotype import choices
    from sk_search.distil import distil

    genotype = distil(run, round_to)
    for choice in choices(genotype):
        doubt = f"  undecided (entropy {choice.entropy:.2f})" if choice.undecided else ""
        kept = f"{len(choice.filters)}/{choice.max_filters}"
        click.echo(f"{choice.name:24s} {choice.kernel}x{choice.kernel}  {kept:>8s}{doubt}")
    click.echo(f"{genotype['macs_per_mp'] / 1e9:.2f} GMAC/MP, {genotype['parameters']} parameters")
    click.echo(f"next: skdn finetune {run}")
