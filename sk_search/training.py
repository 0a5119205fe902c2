"""One stage of training: a network against synthetic noise, with validation, checkpoints and early stopping.

The search and fine-tuning are the same loop; a search adds a `Structure`, which draws samples before a step
and is updated after it; fine-tuning may add a teacher. All randomness comes from generators whose states the
checkpoint holds, so a resumed run continues bit for bit on a CPU.
"""

from __future__ import annotations

import copy
import logging
import math
import time
from collections.abc import Callable
from pathlib import Path
from threading import Event
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn

from sk_deploy.errors import ConfigError, SkdnError
from sk_deploy.whole import whole

from . import parallel
from .checkpoint import all_finite, load_checkpoint, save_checkpoint
from .compiled import compiled
from .config import TrainConfig
from .data import Batches
from .draws import Draws
from .evaluate import inside
from .idle import dead_blocks
from .interrupts import interrupt_flag
from .journal import Journal
from .loss import denoising_loss
from .mosaics import pack
from .optimisers import optimisers
from .strategies import default_choices
from .structure import Structure
from .teachers import Teacher
from .validation import Pairs, validate

log = logging.getLogger(__name__)

Report = Callable[[dict[str, Any]], None]
"""Called with each record of metrics.jsonl."""

_ROLLBACKS = 5
"""Halvings of the learning rate after which the same steps still diverge: something else is wrong."""


class Trainer:
    """Trains `net` in `folder`; see the module's docstring.

    folder: receives metrics.jsonl, last.pt, best.safetensors and TensorBoard events; settings: what the
    checkpoint depends on (`checkpoint.settings_of`); mirrored_px: what a self-ensemble in validation
    continues a patch by; round_to: what filter counts are multiples of once a search is over;
    structure_data: what a two-level search learns its structure from, None where weights and structure learn
    together.
    """

    def __init__(
        self,
        stage: str,
        folder: Path,
        net: nn.Module,
        config: TrainConfig,
        train: Batches,
        validation: Pairs,
        *,
        mirrored_px: int,
        seed: int,
        settings: dict[str, Any],
        structure: Structure | None = None,
        round_to: int = 1,
        structure_data: Batches | None = None,
        teacher: Teacher | None = None,
        report: Report = lambda record: None,
    ) -> None:
        self.stage, self.folder, self.config, self.report = stage, folder, config, report
        self.train, self.structure, self.teacher, self.mirrored_px = train, structure, teacher, mirrored_px
        self.pairs, self.settings, self.structure_data = validation, settings, structure_data
        self.round_to = round_to
        self.device = validation.clean.device
        self.net = net.to(self.device, memory_format=torch.channels_last)
        self.forward = compiled(self.net, self.device) if config.compile else self.net
        if structure and config.ema:
            raise ConfigError("ema is for fine-tuning: a search validates the choice that its weights are in")
        self.kept = copy.deepcopy(self.net) if config.ema else self.net
        structural = {id(p) for p in structure.parameters()} if structure else set()
        self.weights = [p for p in net.parameters() if id(p) not in structural]
        self.optimisers = optimisers(config.optimiser, self.weights, config.learning_rate, config.betas)
        self.draws = Draws(seed, config.shards, self.device)
        self.step, self.best, self.stale = 0, (False, -math.inf), 0
        self.rate_scale, self.rollbacks = 1.0, 0
        self.losses: list[Tensor] = []
        self.dead: list[str] = []
        self.seconds, self._since = 0.0, time.monotonic()
        # On a CPU without its instructions bfloat16 is slower than float32.
        self.autocast = self.device.type != "cpu" or torch.ops.mkldnn._is_mkldnn_bf16_supported()

    # -- the loop ------------------------------------------------------------------------------------------

    def fit(self, resume: bool = False) -> None:
        """Train to the configured step or until patience runs out. Interrupted: saves, then raises.

        Raises ConfigError for a checkpoint that cannot be resumed, SkdnError when training diverges whatever
        the learning rate, or when the disk refuses; the last checkpoint is then still there.
        """
        self._journal: Journal | None = None
        try:
            with interrupt_flag() as interrupted:
                self._begin(resume)
                self._loop(interrupted)
        except OSError as error:
            place, reason = error.filename or self.folder, error.strerror or error
            raise SkdnError(
                f"{place}: cannot be written ({reason}): check the folder and its disk, then --resume"
            ) from error
        finally:
            if self._journal:
                self._journal.close()
        if parallel.is_main() and not self.best[0]:
            log.warning("no validated network met the target: the best of those that missed it is kept")

    @property
    def progress(self) -> float:
        """Of the structure from 0, undecided, to 1, annealed."""
        anneal_steps = self.structure.config.anneal_steps if self.structure else 0
        return min(1.0, self.step / (anneal_steps or self.config.steps))

    @property
    def finished(self) -> bool:
        """Whether the configured steps are done or, at a constant learning rate, patience ran out.

        A falling rate ends with its best steps, and a schedule that is lengthened begins with worse ones.
        """
        ran_out = self.config.schedule == "constant" and self.stale >= self.config.patience
        return self.step >= self.config.steps or ran_out

    def _begin(self, resume: bool) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        if parallel.is_main():
            for part in self.folder.glob(".skdn-*.part"):  # of a file that was being written in a kill
                part.unlink()
        if resume and (self.folder / "last.pt").is_file():
            self._restore()
            return
        # New, or stopped before its first checkpoint: the seed starts it again.
        self._open_journal(kept_bytes=0)
        if not self.structure:  # what is trained on is never given up for something worse
            self._validate()
        if self.teacher:
            self._introduce(self.teacher)
        self._save()

    def _introduce(self, teacher: Teacher) -> None:
        self._record("teacher", name=teacher.name, psnr_db=teacher.psnr_db)
        if parallel.is_main() and teacher.psnr_db <= self.best[1]:
            log.warning(
                "%s has %.2f dB, the network itself %.2f dB: it has little to teach",
                *(teacher.name, teacher.psnr_db, self.best[1]),
            )

    def _loop(self, interrupted: Event) -> None:
        config = self.config
        self._log_from = time.monotonic(), self.step
        while not self.finished:
            self.losses.append(self._train_step())
            self.step += 1
            logs = self.step % config.log_every == 0
            validates = self.step % config.validate_every == 0 or self.step == config.steps
            if (logs and not all_finite(self.losses)) or (validates and not all_finite(self._state())):
                self._roll_back()
                continue
            if logs:
                self._log()
            if validates:
                self._validate()
                self.rollbacks = 0
                self._save()
                self._log_from = time.monotonic(), self.step
            if parallel.anywhere(interrupted.is_set()):
                if all_finite(self._state()):
                    self._save()
                raise KeyboardInterrupt

    def _train_step(self) -> Tensor:
        """One step of all optimisers; returns the loss. The host never waits for the device."""
        for optimiser in self.optimisers:
            for group in optimiser.param_groups:
                group["lr"] = self.rate_scale * self.config.rate_at(self.step)
        if self.structure:
            self.structure.draw(self.progress, self.draws.structure)
        for optimiser in self.optimisers:
            optimiser.zero_grad(set_to_none=True)
        loss = self._loss(self.train)
        together = self.structure and not self.structure_data
        (loss + self.structure.penalty(self.progress) if together else loss).backward()
        loss = loss.detach()
        parallel.average([loss, *(p.grad for p in self.net.parameters() if p.grad is not None)])
        if self.config.clip_norm:
            nn.utils.clip_grad_norm_(self.weights, self.config.clip_norm)
        for optimiser in self.optimisers:
            optimiser.step()
        if self.structure:
            if self.structure_data and self.structure.learns(self.progress):
                self._look_at_other_scenes(self.structure_data)
            self.structure.update(self.progress)
        if self.config.ema:
            decay = min(self.config.ema, (1 + self.step) / (10 + self.step))
            kept, trained = list(self.kept.parameters()), list(self.net.parameters())
            torch._foreach_lerp_([p.detach() for p in kept], [p.detach() for p in trained], 1 - decay)
        return loss

    def _look_at_other_scenes(self, scenes: Batches) -> None:
        """The structure's gradient where weights do not learn: first-order two-level search (DARTS)."""
        self.structure.zero_grad()
        self.structure.draw(self.progress, self.draws.structure)
        (self._loss(scenes) + self.structure.penalty(self.progress)).backward()
        parallel.average([p.grad for p in self.structure.parameters() if p.grad is not None])

    def _loss(self, batches: Batches) -> Tensor:
        """Of one batch."""
        clean, noisy, levels = self.draws.batch(batches, self.config.batch)
        x = pack(noisy).contiguous(memory_format=torch.channels_last)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.autocast):
            output = self.forward(x, levels)
            taught = self.teacher(noisy, levels) if self.teacher else None
        margin = self.config.margin_px // 2
        output, clean = inside(output, margin), inside(pack(clean), margin)
        taught = inside(taught, margin) if taught is not None else None
        return denoising_loss(output, clean, levels, taught, self.config.teacher_weight)

    # -- validation and the log ----------------------------------------------------------------------------

    def _validate(self) -> None:
        """Measure, keep the best weights, count how long there were none better; alike in all processes."""
        if parallel.is_main():
            facts = self._measure()
            score = (facts["feasible"], facts["psnr_db"])
            if score > self.best:
                self.best, self.stale = score, 0
                state = {name: t.contiguous() for name, t in self.kept.state_dict().items()}
                with whole(self.folder / "best.safetensors") as path:
                    path.write_bytes(save(state))
            elif self.progress >= 1 or not self.structure:  # an unfinished structure deserves patience
                self.stale += 1
            self._record("validation", **facts, seconds=self._elapsed(), finished=self.finished)
        self.best, self.stale = parallel.share((self.best, self.stale))

    def _measure(self) -> dict[str, Any]:
        """Of the network that would be kept now: whether it meets the targets, and its quality."""
        if self.structure:
            self.structure.force(default_choices(self.net, self.structure, self.round_to))
        self.kept.eval()
        with dead_blocks(self.kept) as dead:
            facts = validate(self.kept, self.pairs, self.config.batch, self.mirrored_px)
        if not self.structure:
            self._tell_of(dead)
        self.kept.train()
        feasible = self.structure.feasible() if self.structure else True
        return {**facts, "feasible": feasible}

    def _tell_of(self, dead: list[str]) -> None:
        """Name blocks when they die, so that no hours are spent on what learns nothing more."""
        for name in dead:
            if name not in self.dead:
                log.warning(
                    "%s has died: its last ReLU hardly fires, so it learns next to nothing; a lower learning "
                    "rate may keep such a block alive",
                    name,
                )
        self.dead = dead

    def _log(self) -> None:
        start, first = self._log_from
        self._log_from = time.monotonic(), self.step
        rate = (self.step - first) * self.config.batch / (self._log_from[0] - start)
        loss = float(torch.stack(self.losses).mean())
        self.losses = []
        structural = self.structure.metrics() if self.structure else {}
        self._record("train", loss=loss, patches_per_s=rate, **structural)

    def _record(self, kind: str, **facts: Any) -> None:
        record = {"kind": kind, "stage": self.stage, "step": self.step, "steps": self.config.steps, **facts}
        if self._journal:
            self._journal.write(record)
            self.report(record)

    def _open_journal(self, kept_bytes: int) -> None:
        if self._journal:
            self._journal.close()
        self._journal = Journal(self.folder, kept_bytes, self.step) if parallel.is_main() else None

    def _elapsed(self) -> float:
        """Seconds trained for, over all resumptions."""
        now = time.monotonic()
        self.seconds, self._since = self.seconds + now - self._since, now
        return self.seconds

    # -- checkpoints ---------------------------------------------------------------------------------------

    def _state(self) -> dict[str, Any]:
        return {
            "net": self.net.state_dict(),
            "kept": self.kept.state_dict() if self.config.ema else None,
            "optimisers": [optimiser.state_dict() for optimiser in self.optimisers],
            "structure": self.structure.state_dict() if self.structure else None,
            "draws": self.draws.state_dict(),
            "step": self.step,
            "best": self.best,
            "stale": self.stale,
            "rate_scale": self.rate_scale,
            "rollbacks": self.rollbacks,
            "losses": self.losses,
            "seconds": self._elapsed(),
            "metrics_bytes": self._journal.bytes if self._journal else 0,
            "settings": self.settings,
        }

    def _save(self) -> None:
        state = self._state()
        if parallel.is_main():
            save_checkpoint(self.folder / "last.pt", state)

    def _restore(self) -> None:
        """Continue from the last checkpoint; what was logged after it goes."""
        path = self.folder / "last.pt"
        state = load_checkpoint(path, self.settings, self.device)
        try:
            self.net.load_state_dict(state["net"])
            if self.config.ema:
                self.kept.load_state_dict(state["kept"])
            for optimiser, saved in zip(self.optimisers, state["optimisers"], strict=True):
                optimiser.load_state_dict(saved)
            if self.structure:
                self.structure.load_state_dict(state["structure"])
            self.draws.load_state_dict(state["draws"], state["step"])
            self.step, self.best, self.stale = state["step"], tuple(state["best"]), state["stale"]
            self.rate_scale, self.rollbacks = state["rate_scale"], state["rollbacks"]
            self.losses, self.seconds = list(state["losses"]), state["seconds"]
        except (RuntimeError, ValueError, KeyError, IndexError) as error:
            raise ConfigError(f"{path} is of another network or version of skdn: start a new run") from error
        self._since = time.monotonic()
        self._open_journal(state["metrics_bytes"])

    def _roll_back(self) -> None:
        """Back to the last checkpoint, on at half the learning rate and with other draws."""
        diverged_at = self.step
        self._restore()
        if self.rollbacks == _ROLLBACKS:
            raise SkdnError(
                f"{self.stage} diverged at step {diverged_at}, also at a learning rate of "
                f"{self.config.learning_rate * self.rate_scale:.2g}: check the data, or start a new run with "
                f"other settings; {self.folder} keeps step {self.step}"
            )
        self.rollbacks += 1
        self.rate_scale /= 2
        self.draws.skip(self.rollbacks)
        rate = self.config.learning_rate * self.rate_scale
        self._record("rollback", diverged_at=diverged_at, learning_rate=rate)
        if parallel.is_main():
            log.warning(
                "%s diverged at step %d: back to step %d, at half the learning rate, %.2g",
                *(self.stage, diverged_at, self.step, rate),
            )
        self._save()
