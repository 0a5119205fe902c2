"""One stage of training: a network against synthetic noise, with validation, checkpoints and early stopping.

The search and fine-tuning are the same loop; a search adds a `Structure`, which draws samples before a step
and is updated after it. All randomness comes from one generator, whose state the checkpoint holds, so a
resumed run continues bit for bit on a CPU.
"""

from __future__ import annotations

import copy
import json
import logging
import math
import pickle
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter

from sk_deploy.errors import ConfigError, SkdnError
from sk_deploy.whole import whole

from .config import TrainConfig
from .data import Batches
from .evaluate import denoise_mosaic, psnr_db, self_ensemble, ssim
from .mosaics import pack
from .structure import Structure

log = logging.getLogger(__name__)

Report = Callable[[dict[str, Any]], None]
"""Called with each record of metrics.jsonl."""


def denoising_loss(output: Tensor, clean: Tensor, noise: Tensor) -> Tensor:
    """Remaining over original noise power in dB, mean over the batch; lower is better.

    The logarithm gives every noise level the same say, and the square has the mean as its optimum, so planes
    keep their brightness. Half of it weights pixels by their own noise, or shadows would not count; taken at
    the output, because a weight that falls as the clean value rises would pull the mean down.
    output, clean: planes [B,4,h,w]; noise [B,2].
    """
    shot, read = noise[:, 0].view(-1, 1, 1, 1), noise[:, 1].view(-1, 1, 1, 1)
    error = (output - clean).square()
    absolute = error.mean((1, 2, 3)) / (shot * clean + read).mean((1, 2, 3))
    relative = (error / (shot * output.detach().clamp_min(0) + read)).mean((1, 2, 3))
    floor = 3e-3  # 25 dB below the noise: a flat patch must not drown the others
    return 5 * (torch.log10(absolute + floor) + torch.log10(relative + floor)).mean()


@contextmanager
def _interrupt_flag() -> Iterator[threading.Event]:
    """Set by Ctrl-C instead of an exception in the middle of a step; the second Ctrl-C raises."""
    flag = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield flag
        return

    def on_interrupt(number: int, frame: object) -> None:
        flag.set()
        signal.signal(signal.SIGINT, before)

    before = signal.signal(signal.SIGINT, on_interrupt)
    try:
        yield flag
    finally:
        signal.signal(signal.SIGINT, before)


class Trainer:
    """Trains `net` in `folder`; see the module's docstring.

    folder: receives metrics.jsonl, last.pt, best.safetensors and TensorBoard events.
    """

    def __init__(
        self,
        stage: str,
        folder: Path,
        net: nn.Module,
        config: TrainConfig,
        train: Batches,
        validation: tuple[Tensor, Tensor, Tensor],
        *,
        margin_px: int,
        seed: int,
        structure: Structure | None = None,
        report: Report = lambda record: None,
    ) -> None:
        self.stage, self.folder, self.config, self.report = stage, folder, config, report
        self.train, self.structure, self.margin_px = train, structure, margin_px
        self.clean, self.noisy, self.levels = validation
        self.device = self.clean.device
        self.net = net.to(self.device, memory_format=torch.channels_last)
        if structure and config.ema:
            raise ConfigError("ema is for fine-tuning: a search validates the choice that its weights are in")
        self.kept = copy.deepcopy(self.net) if config.ema else self.net
        structural = {id(p) for p in structure.parameters()} if structure else set()
        self.weights = [p for p in net.parameters() if id(p) not in structural]
        self.optimiser = torch.optim.Adam(self.weights, lr=config.learning_rate, betas=config.betas)
        self.generator = torch.Generator(self.device).manual_seed(seed)
        self.step, self.best, self.stale = 0, (False, -math.inf), 0
        self.losses: list[Tensor] = []
        self.seconds = 0.0
        # On a CPU without its instructions bfloat16 is slower than float32.
        self.autocast = self.device.type != "cpu" or torch.ops.mkldnn._is_mkldnn_bf16_supported()

    # -- the loop ------------------------------------------------------------------------------------------

    def fit(self, resume: bool = False) -> None:
        """Train to the configured step or until patience runs out. Interrupted: saves, then raises."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if resume and (self.folder / "last.pt").is_file():
            self._load()
        else:  # new, or stopped before its first checkpoint: the seed starts it again
            (self.folder / "metrics.jsonl").unlink(missing_ok=True)
        writer = SummaryWriter(str(self.folder / "tensorboard"), purge_step=self.step)
        try:
            with (
                (self.folder / "metrics.jsonl").open("a", encoding="utf-8") as self._metrics,
                _interrupt_flag() as interrupted,
            ):
                self._writer = writer
                self._loop(interrupted)
            if not self.best[0]:
                log.warning("no validated network met the target: the best of those that missed it is kept")
        finally:
            writer.close()

    @property
    def progress(self) -> float:
        """Of the structure from 0, undecided, to 1, annealed."""
        anneal_steps = self.structure.config.anneal_steps if self.structure else 0
        return min(1.0, self.step / (anneal_steps or self.config.steps))

    @property
    def finished(self) -> bool:
        """Whether the configured steps are done or patience ran out."""
        return self.step >= self.config.steps or self.stale >= self.config.patience

    def _loop(self, interrupted: threading.Event) -> None:
        config = self.config
        started = time.monotonic() - self.seconds
        window_start, window_step = time.monotonic(), self.step
        while not self.finished:
            self.losses.append(self._train_step())
            self.step += 1
            if self.step % config.log_every == 0:
                now = time.monotonic()
                rate = (self.step - window_step) * config.batch / (now - window_start)
                window_start, window_step = now, self.step
                loss = float(torch.stack(self.losses).mean())
                self.losses = []
                if not math.isfinite(loss):
                    raise SkdnError(
                        f"{self.stage} diverged at step {self.step}: the loss is {loss}; "
                        "lower the learning rate and resume"
                    )
                structural = self.structure.metrics() if self.structure else {}
                self._record("train", loss=loss, patches_per_s=rate, **structural)
            if self.step % config.validate_every == 0 or self.step == config.steps:
                self.seconds = time.monotonic() - started
                self._validate()
                self._save()
                window_start, window_step = time.monotonic(), self.step
            if interrupted.is_set():
                self.seconds = time.monotonic() - started
                self._save()
                raise KeyboardInterrupt

    def _train_step(self) -> Tensor:
        for group in self.optimiser.param_groups:
            group["lr"] = self._learning_rate()
        if self.structure:
            self.structure.draw(self.progress, self.generator)
        clean, noisy, levels = self.train.sample(self.config.batch, self.generator)
        self.optimiser.zero_grad(set_to_none=True)
        x = pack(noisy).contiguous(memory_format=torch.channels_last)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.autocast):
            output = self.net(x, levels)
        loss = denoising_loss(output, pack(clean), levels)
        (loss + self.structure.penalty() if self.structure else loss).backward()
        nn.utils.clip_grad_norm_(self.weights, self.config.clip_norm)
        self.optimiser.step()
        if self.structure:
            self.structure.update(self.progress)
        if self.config.ema:
            decay = min(self.config.ema, (1 + self.step) / (10 + self.step))
            kept, trained = list(self.kept.parameters()), list(self.net.parameters())
            torch._foreach_lerp_([p.detach() for p in kept], [p.detach() for p in trained], 1 - decay)
        return loss.detach()

    def _learning_rate(self) -> float:
        config = self.config
        warm = min(1.0, (self.step + 1) / (config.warmup_steps + 1))
        if config.schedule == "constant":
            return config.learning_rate * warm
        falling = 0.5 * (1 + math.cos(math.pi * self.step / config.steps))
        return config.learning_rate * warm * (0.01 + 0.99 * falling)

    # -- validation ----------------------------------------------------------------------------------------

    @torch.no_grad()
    def _validate(self) -> None:
        """Always on the argmax network, with and without self-ensemble, in float32."""
        if self.structure:
            self.structure.choose()
        self.kept.eval()
        parts: dict[str, list[Tensor]] = {"single": [], "ensemble": []}
        for i in range(0, len(self.noisy), self.config.batch):
            noisy, levels = self.noisy[i : i + self.config.batch], self.levels[i : i + self.config.batch]
            parts["single"].append(denoise_mosaic(self.kept, noisy, levels))
            parts["ensemble"].append(self_ensemble(self.kept, noisy, levels, self.margin_px))
        single, ensemble = torch.cat(parts["single"]), torch.cat(parts["ensemble"])
        psnr = float(psnr_db(single, self.clean).mean())
        feasible = self.structure.feasible() if self.structure else True
        self._record(
            "validation",
            psnr_db=psnr,
            psnr_ensemble_db=float(psnr_db(ensemble, self.clean).mean()),
            psnr_noisy_db=float(psnr_db(self.noisy, self.clean).mean()),
            ssim=ssim(single, self.clean),
            feasible=feasible,
            seconds=self.seconds,
        )
        self.kept.train()
        score = (feasible, psnr)
        if score > self.best:
            self.best, self.stale = score, 0
            state = {name: t.contiguous() for name, t in self.kept.state_dict().items()}
            with whole(self.folder / "best.safetensors") as path:
                save_file(state, path)
        elif self.progress >= 1 or not self.structure:  # an unfinished structure deserves patience
            self.stale += 1

    def _record(self, kind: str, **facts: Any) -> None:
        record = {"kind": kind, "stage": self.stage, "step": self.step, "steps": self.config.steps, **facts}
        self._metrics.write(json.dumps(record) + "\n")
        self._metrics.flush()
        for name, value in facts.items():
            if isinstance(value, int | float):
                self._writer.add_scalar(f"{kind}/{name}", value, self.step)
        self.report(record)

    # -- checkpoints ---------------------------------------------------------------------------------------

    def _save(self) -> None:
        state = {
            "net": self.net.state_dict(),
            "kept": self.kept.state_dict() if self.config.ema else None,
            "optimiser": self.optimiser.state_dict(),
            "structure": self.structure.state_dict() if self.structure else None,
            "generator": self.generator.get_state(),
            "step": self.step,
            "best": self.best,
            "stale": self.stale,
            "losses": self.losses,
            "seconds": self.seconds,
            "metrics_bytes": (self.folder / "metrics.jsonl").stat().st_size,
        }
        with whole(self.folder / "last.pt") as path:
            torch.save(state, path)

    def _load(self) -> None:
        path = self.folder / "last.pt"
        try:
            state = torch.load(path, map_location=self.device, weights_only=True)
            self.net.load_state_dict(state["net"])
            if self.config.ema:
                self.kept.load_state_dict(state["kept"])
            self.optimiser.load_state_dict(state["optimiser"])
            if self.structure:
                self.structure.load_state_dict(state["structure"])
            self.generator.set_state(state["generator"].cpu())
        except (RuntimeError, ValueError, KeyError, pickle.UnpicklingError, EOFError) as error:
            raise ConfigError(f"{path} is damaged, or of another configuration: start a new run") from error
        self.step, self.best, self.stale = state["step"], tuple(state["best"]), state["stale"]
        self.losses, self.seconds = list(state["losses"]), state["seconds"]
        with (self.folder / "metrics.jsonl").open("rb+") as metrics:  # what came after the checkpoint goes
            metrics.truncate(state["metrics_bytes"])
