"""Whether the fake network's own numbers can tell how many updates it needs: what they say against their noise.

    python studies/steering_k.py [NAME ...]

A controller of K would ask after each update whether the fake network still gains on the generator's last step. Here
K is 8 all the time (Gaussians of `games.py`, eight seeds), and a table shows what a controller could see:

- the error on generated samples, from one update to the next and from step to step;
- what an update truly gains: the same error on 2,048 samples, noise and times, the same for all updates of a step;
- the cosine of an update's gradient with that of the one before (Pflug's test, Chee & Toulis 1710.06382): positive
  while they point somewhere, negative at the end, where each takes back what the other did too much.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Any

import torch
from games import PATH, SEEDS, Game, Setting
from tamers import BASE, uid
from torch import Tensor

from realuid.losses import Terms
from realuid.paths.targets import Data

UPDATES, STEPS, SEEN_STEPS, HELD_OUT = 8, 120, 80, 2048
SETTINGS = {
    "r = 1": BASE,
    "r = 1, fake from the teacher": replace(BASE, from_teacher=True),
    "UID, fake from the teacher": Setting(uid(Data()), from_teacher=True),
}


class Watched(Game):
    """A game whose fake updates are watched; numbers are `[SEEDS]` an update."""

    def __init__(self, setting: Setting) -> None:
        self.latest = list[Terms]()
        super().__init__(setting)
        self.latest.clear()
        self.errors, self.held_out, self.cosines = list[Tensor](), list[Tensor](), list[Tensor]()
        self.gradient: Tensor | None = None
        self.fake_optimizer.register_step_pre_hook(self.before_update)

    def terms(self, *arguments: Any) -> Terms:
        self.latest.append(super().terms(*arguments))
        return self.latest[-1]

    def step(self) -> None:
        x1 = torch.baddbmm(self.student[:, -1:], self.normal(HELD_OUT), self.student[:, :-1]).detach()
        self.kept = x1, self.normal(HELD_OUT), self.times(HELD_OUT)
        super().step()
        self.latest.clear()

    @torch.no_grad()
    def before_update(self, *_: Any) -> None:
        seen = self.latest[0]
        self.errors.append((seen.target - seen.fake).square().view(SEEDS, -1).mean(1))
        x1, x0, t = self.kept
        x_t = PATH.interpolate(PATH.at(t.flatten().double()), x0.flatten(0, 1), x1.flatten(0, 1), None)
        found = self.fake(x_t.view_as(x1), t, self.fake.weights)
        self.held_out.append((x1 - found).square().flatten(1).mean(1))
        gradient = torch.cat([weight.grad.flatten(1) for weight in self.fake.weights if weight.grad is not None], 1)
        if self.gradient is not None:
            self.cosines.append(torch.cosine_similarity(gradient, self.gradient, dim=1))
        self.gradient = gradient
        self.latest.clear()


def by_update(values: list[Tensor]) -> Tensor:
    """Of the last steps `[SEEN_STEPS, UPDATES, SEEDS]`."""
    return torch.stack(values[-SEEN_STEPS * UPDATES :]).view(SEEN_STEPS, UPDATES, SEEDS)


def row(name: str, setting: Setting) -> str:
    game = Watched(replace(setting, fake_steps=UPDATES, steps=STEPS))
    for _ in range(STEPS):
        game.step()
    errors, held_out, cosines = map(by_update, (game.errors, game.held_out, game.cosines))
    fall = (errors[:, 0] - errors[:, -1]).mean(0)
    gain = float((held_out[:, 0] - held_out[:, -1]).mean())
    noise = float(errors[:, 0].std(0).mean())
    steps = 2 * (2 * noise / gain) ** 2
    first, last = (float(cosines[:, k].mean()) for k in (1, UPDATES - 1))
    return (
        f"| {name} | {errors[:, 0].mean():.3f} ± {noise:.3f} | {fall.mean():+.4f} ± {fall.std():.4f} | {gain:+.5f} | "
        f"{steps:,.0f} | {first:+.2f}, {last:+.2f} |"
    )


if __name__ == "__main__":
    torch.set_num_threads(1)
    for name in sys.argv[1:] or SETTINGS:
        print(row(name, SETTINGS[name]), flush=True)
