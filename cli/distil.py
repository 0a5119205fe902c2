"""`skdn distil`: read the structure that a search learned, and cut the fixed network."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--strategy",
    metavar="argmax|budget|sample:N",
    help="argmax: the most probable. budget: the likeliest within the cost targets. sample:N: the best of N "
    "samples on validation.  [budget where the run has a target, else argmax]",
)
@click.option(
    "--round-to", type=click.IntRange(min=1), help="Filter counts become multiples of this.  [the run's]"
)
def command(run: Path, strategy: str | None, round_to: int | None) -> None:
    """Read the searched structure and cut the fixed network; undecided layers are named."""
    from sk_deploy.genotype import genes
    from sk_search.distil import distil

    genotype = distil(run, round_to, strategy)
    for gene in genes(genotype):
        doubt = f"  undecided (entropy {gene.entropy:.2f})" if gene.undecided else ""
        kept = f"{len(gene.filters)}/{gene.max_filters}"
        click.echo(f"{gene.name:24s} {gene.kernel}x{gene.kernel}  {kept:>8s}{doubt}")
    click.echo(f"{genotype['macs_per_mp'] / 1e9:.2f} GMAC/MP, {genotype['parameters']} parameters")
    click.echo(f"next: skdn finetune {run}")
