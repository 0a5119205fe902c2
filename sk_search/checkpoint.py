"""last.pt: everything that a bit-exact resume needs, whole or not at all, and the settings behind it."""

from __future__ import annotations

import io
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sk_deploy.errors import ConfigError
from sk_deploy.whole import whole

from .config import RunConfig, TrainConfig

_FREE = {"train.steps", "train.patience", "train.log_every", "train.validate_every", "train.compile"}
"""Settings that may change between a checkpoint and its resumption: how long and how often, never what."""


def settings_of(config: RunConfig, train: TrainConfig) -> dict[str, Any]:
    """What a stage of training depends on."""
    facts = config.to_dict()
    for name in ("preset", "search", "finetune"):
        del facts[name]
    return {**facts, "train": train.to_dict()}


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Raises SkdnError in one line when the disk refuses; the checkpoint before is then still there."""
    buffer = io.BytesIO()  # torch's own writer does not say that a disk is full
    torch.save(state, buffer)
    with whole(path) as temporary:
        temporary.write_bytes(buffer.getbuffer())


def load_checkpoint(path: Path, settings: dict[str, Any], device: torch.device) -> dict[str, Any]:
    """The state, on the device. ConfigError when it is damaged or was made under other settings."""
    try:
        state: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
        changed = differences(state["settings"], settings)
    except (RuntimeError, ValueError, KeyError, TypeError, pickle.UnpicklingError, EOFError) as error:
        raise ConfigError(f"{path} is damaged, or of another version of skdn: start a new run") from error
    if changed:
        raise ConfigError(
            f"{path.parent} was begun with other settings ({'; '.join(changed)}): take the change back "
            "to resume, or start a new run with it"
        )
    return state


def differences(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """The settings that matter and differ, as "net.widths: 16,32 → 16,48"."""
    old, new = dict(_flat(before)), dict(_flat(now))
    # A setting that only one side knows is of another version, whose default is what was done before.
    return [
        f"{name}: {_shown(old[name])} → {_shown(new[name])}"
        for name in old
        if name in new and name not in _FREE and _shown(old[name]) != _shown(new[name])
    ]


def all_finite(state: object) -> bool:
    """Whether every number in the tensors of a nested state is finite."""
    checks = [t.isfinite().all() for t in _tensors(state) if t.is_floating_point()]
    devices = {check.device for check in checks}  # one wait for each
    return all(bool(torch.stack([c for c in checks if c.device == device]).all()) for device in devices)


def _tensors(state: object) -> Iterator[Tensor]:
    if isinstance(state, Tensor):
        yield state
    elif isinstance(state, dict):
        for value in state.values():
            yield from _tensors(value)
    elif isinstance(state, list | tuple):
        for value in state:
            yield from _tensors(value)


def _flat(settings: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in settings.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _shown(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
