"""A denoiser's training: optimizer, averaged weights, phases, checkpoints. A recipe subclasses it
to say what a phase trains on and what a batch loses."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Protocol

import torch
from diffusers.training_utils import EMAModel
from torch import nn

from recipe_common.training import (
    Bar,
    Clock,
    Every,
    Phase,
    Threads,
    device,
    learning_rate,
    load_checkpoint,
    phase_at,
    save_checkpoint,
    set_learning_rate,
)

READ_LOSS_EVERY = 10  # steps


class TrainerSettings(Protocol):
    """What a recipe's settings have for this."""

    @property
    def phases(self) -> tuple[Phase, ...]: ...
    @property
    def learning_rate(self) -> float: ...
    @property
    def warmup_steps(self) -> int: ...
    @property
    def weight_decay(self) -> float: ...
    @property
    def clip_norm(self) -> float: ...
    @property
    def ema_decay(self) -> float: ...
    @property
    def ema_power(self) -> float: ...
    @property
    def sheet_every_minutes(self) -> float: ...
    @property
    def save_every_minutes(self) -> float: ...


class Trainer(ABC):
    """Everything that a checkpoint holds, and the loop."""

    def __init__(self, model: nn.Module, settings: TrainerSettings, path: Path, seed: int) -> None:
        self.rules, self.path, self.seed, self.on = settings, path, seed, device()
        self.model = model.to(self.on, memory_format=torch.channels_last)
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(),
            settings.learning_rate,
            weight_decay=settings.weight_decay,
            fused=True,
        )
        self.ema = EMAModel(
            self.model.parameters(),
            decay=settings.ema_decay,
            use_ema_warmup=True,
            power=settings.ema_power,
            foreach=True,
        )
        self.ema.to(self.on)
        self.clock = Clock(sum(phase.minutes for phase in settings.phases))
        self.step = self.samples = 0
        self.generator = torch.Generator().manual_seed(seed)
        self.noise_generator = torch.Generator(self.on).manual_seed(seed)

    @abstractmethod
    def enter(self, phase: Phase) -> None:
        """Make ready what `phase` trains on."""

    @abstractmethod
    def loss(self, phase: Phase) -> torch.Tensor:
        """Of the next `phase.batch` samples."""

    @abstractmethod
    def look(self, phase: Phase) -> str:
        """Draw a sheet; what to say of the averaged weights."""

    def restore(self) -> bool:
        """Go on from the checkpoint, if there is one."""
        state = load_checkpoint(self.path)
        if state is None:
            return False
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.ema.load_state_dict(state["ema"])
        self.ema.to(self.on)
        self.clock.spent = state["minutes"]
        self.step, self.samples = state["step"], state["samples"]
        self.generator.manual_seed(self.seed + self.step)
        self.noise_generator.manual_seed(self.seed + self.step)
        return True

    def save(self) -> None:
        save_checkpoint(
            self.path,
            {
                "model": self.model.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "ema": self.ema.state_dict(),
                "minutes": self.clock.spent,
                "step": self.step,
                "samples": self.samples,
            },
        )

    def advance(self, phase: Phase) -> torch.Tensor:
        """One optimizer step; the loss."""
        rules = self.rules
        rate = learning_rate(
            rules.learning_rate, self.step, rules.warmup_steps, self.clock.progress
        )
        set_learning_rate(self.optimizer, rate)
        loss = self.loss(phase)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), rules.clip_norm)
        self.optimizer.step()
        self.ema.step(self.model.parameters())
        self.step += 1
        self.samples += phase.batch
        return loss.detach()

    def run(self, title: str, max_minutes: float | None) -> bool:
        """Train or go on training; True when the plan is finished."""
        self.restore()
        clock, rules = self.clock, self.rules
        clock.call_limit = max_minutes
        sheet_due = Every(rules.sheet_every_minutes, clock, last=clock.spent)
        save_due = Every(rules.save_every_minutes, clock, last=clock.spent)
        running, phase, threads = 0.0, None, Threads()
        clock.start()
        with Bar(title, clock) as bar:
            while not clock.is_over:
                if (now := phase_at(rules.phases, clock.spent)) is not phase:
                    phase = now
                    self.enter(phase)
                loss = self.advance(phase)
                if self.step % READ_LOSS_EVERY == 0:  # reading it waits for the GPU
                    read = loss.item()
                    running += (read - running) * 0.1 if running else read
                threads.after_step(60 * clock.tick())
                size = f"{phase.latent_size}x{phase.latent_size}"
                bar.show(f"step {self.step}  {size}  loss {running:.4f}  {threads.now} thr.")
                if save_due.due():
                    self.save()
                if sheet_due.due():
                    bar.log_line(self.look(phase))
        self.save()
        return clock.progress >= 1.0
