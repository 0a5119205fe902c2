"""Distillation (§4.5.5): read the learned structure, round it, cut the fixed network out of the supernet."""

from __future__ import annotations

import copy
import hashlib
import logging
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from sk_deploy.errors import ConfigError
from sk_deploy.genotype import UNDECIDED_ENTROPY
from sk_deploy.whole import whole

from .checkpoint import load_checkpoint
from .config import NetConfig, RunConfig
from .cost import network_cost
from .layers import blocks_of
from .lut import LatencyTable, sites
from .nets import Network, build_network, build_supernet, superconvs
from .record import read_record
from .run import load_config, load_genotype, load_table, write_json
from .strategies import choose, default_strategy, options
from .superkernel import Choice, Superkernel

log = logging.getLogger(__name__)

GENOTYPE_SCHEMA = 1


def cut(net: Network, choices: dict[str, Choice]) -> Network:
    """The fixed network that equals the supernet under `choices`; the supernet is left as it is."""
    fixed = copy.deepcopy(net)
    for name, block in blocks_of(fixed).items():
        block.distil(choices[f"{name}.conv1"], choices[f"{name}.conv2"])
    return fixed


def describe(
    net: Network, fixed: Network, choices: dict[str, Choice], config: RunConfig, round_to: int
) -> dict[str, Any]:
    """The genotype: what was chosen, how surely, and what it costs.

    Of each superkernel: the slice that is kept and its probability, the most probable one ("argmax", before
    rounding and targets), and the marginal probabilities of every kernel size and filter.
    """
    entries = [
        _entry(name, conv.superkernel, choices[name], round_to) for name, conv in superconvs(net).items()
    ]
    return {
        "schema": GENOTYPE_SCHEMA,
        "arch": config.net.arch,
        "type": config.structure.type,
        "mode": config.structure.mode,
        "bias_rule": config.structure.bias_rule,
        "keep_above": config.structure.keep_above,
        "round_to": round_to,
        "net": stated(config.net),
        "superkernels": entries,
        **costs_of(fixed),
    }


def costs_of(net: Network) -> dict[str, float]:
    """What a fixed network costs, as a genotype says it."""
    macs_per_mp, parameters = network_cost(net)
    return {"macs_per_mp": macs_per_mp, "parameters": parameters}


def stated(config: NetConfig) -> dict[str, Any]:
    """How the network is built, as a genotype says it, in JSON's types."""
    facts = {**asdict(config), "depth": config.depth}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in facts.items()}


def _entry(name: str, superkernel: Superkernel, choice: Choice, round_to: int) -> dict[str, Any]:
    return {
        "name": name,
        "kernel": choice.kernel,
        "kernels": list(superkernel.kernels),
        "filters": list(choice.filters),
        "max_filters": superkernel.max_filters,
        "counts": list(superkernel.filters),
        "probability": math.exp(options(superkernel, round_to).get(choice, -math.inf)),
        "entropy": float(superkernel.entropy()),
        "kernel_probabilities": superkernel.kernel_probabilities().tolist(),
        "filter_probabilities": superkernel.probabilities().sum(0).tolist(),
        "argmax": {"kernel": (top := superkernel.argmax()).kernel, "filters": list(top.filters)},
    }


def load_supernet(run: Path) -> Network:
    """The searched supernet with its best weights. ConfigError when the search has not validated yet."""
    config = load_config(run)
    path = run / "best.safetensors"
    if not path.is_file():
        raise ConfigError(
            f"{run} has no best.safetensors yet: continue it with `skdn search --out {run} --resume`"
        )
    return _load_weights(build_supernet(config.net, config.structure), path)


def distil(run: Path, round_to: int | None = None, strategy: str | None = None) -> dict[str, Any]:
    """Write run/genotype.json and run/distilled/best.safetensors; return the genotype.

    round_to: filter counts become multiples of it; None takes the configuration's. strategy: as `choose`.
    Raises ConfigError for a run without a search, an unknown strategy, or when weights that were fine-tuned
    for another cut would be orphaned.
    """
    config = load_config(run)
    if (run / "finetuned").exists():
        raise ConfigError(f"{run} is fine-tuned already: move {run / 'finetuned'} away to distil again")
    net, table = load_supernet(run), load_table(run)
    strategy = strategy or default_strategy(config)
    round_to = round_to or config.net.round_to
    _warn_of_doubt(run, net)
    with torch.no_grad():
        choices = choose(net, config, strategy, round_to, table)
        fixed = cut(net, choices)
        genotype = describe(net, fixed, choices, config, round_to)
    genotype |= {"strategy": strategy, "supernet": supernet_digest(run)}
    if table:
        genotype["latency_ms"] = _latency_ms(table, choices)
    folder = run / "distilled"
    folder.mkdir(exist_ok=True)
    with whole(folder / "best.safetensors") as path:
        save_file(fixed.state_dict(), path)
    write_json(run / "genotype.json", genotype)
    return genotype


@torch.no_grad()
def _warn_of_doubt(run: Path, net: Network) -> None:
    """Name what the search has not settled, and say where it has not ended."""
    search = read_record(run).search
    if not search.finished:
        log.warning(
            "the search stopped at step %d of %d, and this is what it had found by then: "
            "`skdn search --out %s --resume` continues it",
            *(search.step, search.steps, run),
        )
    superkernels = {name: conv.superkernel for name, conv in superconvs(net).items()}
    undecided = [name for name, s in superkernels.items() if float(s.entropy()) > UNDECIDED_ENTROPY]
    if undecided:
        log.warning(
            "undecided, so their choice is close to chance: %s; a longer search decides more",
            ", ".join(undecided),
        )


def _latency_ms(table: LatencyTable, choices: dict[str, Choice]) -> float:
    options = [
        tuple(
            (choice.kernel, len(choice.filters)) for choice in (choices[f"{b}.conv1"], choices[f"{b}.conv2"])
        )
        for b in sites(table.net)
    ]
    return table.network_ms(options)


def choices_of(genotype: dict[str, Any]) -> dict[str, Choice]:
    """Superkernel name -> what a genotype keeps of it."""
    return {e["name"]: Choice(e["kernel"], tuple(e["filters"])) for e in genotype["superkernels"]}


def network_of(genotype: dict[str, Any], config: NetConfig) -> Network:
    """The fixed network of a run's or a model's genotype, with fresh weights."""
    return build_network(config, choices_of(genotype), genotype.get("left_out", ()))


def load_network(run: Path, stage: str, last: bool = False, net_config: NetConfig | None = None) -> Network:
    """The fixed network of a run with the weights of `stage`: "distilled", "finetuned" or "ensembled".

    last: those of its last checkpoint, averaged where training averages, in place of those that validated
    best. net_config: in place of the run's. Raises ConfigError when the run has not come that far, or its
    files are damaged.
    """
    net = network_of(load_genotype(run), net_config or load_config(run).net)
    if last:
        return _load_last_weights(net, run / stage / "last.pt")
    return _load_weights(net, run / stage / "best.safetensors")


def supernet_digest(run: Path) -> str:
    """Identifies the searched weights that a genotype was read from."""
    return hashlib.sha256((run / "best.safetensors").read_bytes()).hexdigest()[:12]


def _load_weights(net: Network, path: Path) -> Network:
    try:
        net.load_state_dict(load_file(path))
    except (OSError, RuntimeError, SafetensorError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(
            f"{path} cannot be loaded ({reason}): restore it, or make it again by the verb that wrote it"
        ) from error
    return net


def _load_last_weights(net: Network, path: Path) -> Network:
    if not path.is_file():
        raise ConfigError(f"{path} is not there: only a trained stage has last weights")
    state = load_checkpoint(path, {}, torch.device("cpu"))
    try:
        net.load_state_dict(state["kept"] or state["net"])
    except (RuntimeError, KeyError) as error:
        raise ConfigError(f"{path} is of another network or version of skdn") from error
    return net
