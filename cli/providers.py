"""`skdn providers`: what can run a model here, what cannot, and what it lacks."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from sk_deploy.providers import Provider, Providers


@click.command(name="providers")
@click.option("--json", "as_json", is_flag=True, help="Everything as one JSON object.")
def command(as_json: bool) -> None:
    """Try out every provider that a model may run on, and name what is missing.

    Each runs a small convolution in a process of its own. Needs no PyTorch.
    """
    from sk_deploy.providers import look_up

    found = look_up()
    click.echo(json.dumps(found.facts(), indent=1, ensure_ascii=False) if as_json else describe(found))


def describe(found: Providers) -> str:
    """The same in a few lines."""
    packages = " and ".join(f"{name} {version}" for name, version in sorted(found.packages.items()))
    build = f"built for CUDA {found.cuda_version}" if found.cuda_version else "built without CUDA"
    lines = [f"{packages or 'onnxruntime, of no package'}, {build}"]
    if len(found.packages) > 1:
        lines.append("two packages in one place overwrite each other: uninstall both, then install one")
    lines += [f"{provider.name:<9} {_state(provider, found)}" for provider in found.providers]
    lines.append(f"{'auto':<9} runs on {found.auto}: {found.auto_reason}")
    known = {"CPUExecutionProvider", "CUDAExecutionProvider", "TensorrtExecutionProvider"}
    if others := [name for name in found.offered if name not in known]:
        lines.append(f"also in this ONNX Runtime, not used by skdn: {', '.join(others)}")
    return "\n".join(lines)


def _state(provider: Provider, found: Providers) -> str:
    if provider.runs:
        devices = f"{found.cpu}, {found.threads} threads"
        return f"runs      {devices if provider.name == 'cpu' else ', '.join(found.cuda_devices)}"
    if not provider.built_in:
        return f"absent    {provider.reason}" + f": pip install {provider.fix} in its place" * bool(
            provider.fix
        )
    told = [provider.reason]
    if provider.missing:
        told.append(f"not found: {', '.join(provider.missing)}")
    if provider.fix:
        told.append(f"pip install {provider.fix}")
    return "fails     " + f"\n{'':<20}".join(told)
