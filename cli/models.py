"""`skdn models`: what ships."""

from __future__ import annotations

import json

import click


@click.command(name="models")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a model.")
def command(as_json: bool) -> None:
    """List the models that ship with skdn: licence, cost, size."""
    from sk_deploy.model_file import read_model
    from sk_deploy.models import DEFAULT_MODEL, shipped_models

    for name, path in shipped_models().items():
        data, spec = read_model(path)
        facts = {
            "name": name,
            "default": name == DEFAULT_MODEL,
            "licence": spec.licence,
            "macs_per_mp": spec.macs_per_mp,
            "parameters": spec.parameters,
            "size_bytes": len(data),
            "conditioning": spec.conditioning,
            "path": str(path),
        }
        if as_json:
            click.echo(json.dumps(facts))
        else:
            click.echo(
                f"{name + ' (default)' * facts['default']:<20} {spec.licence}, "
                f"{spec.macs_per_mp / 1e9:.2f} GMAC/MP, {spec.parameters / 1e3:.0f} k parameters, "
                f"{len(data) / 1e6:.2f} MB"
            )
