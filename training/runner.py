"""The loop every training stage shares: a time budget, checkpoints that survive a kill, a log."""

import json
import time
from pathlib import Path

import torch

CHECKPOINT_SECONDS = 120


class Run:
    """One stage's folder below the work folder: `state.pt`, `log.jsonl`, contact sheets.

    The budget is minutes of training, not steps, because the machine is shared: progress, and
    with it the learning rate, follows the time spent, which the checkpoint carries along.
    """

    def __init__(self, work: Path, name: str, minutes: float):
        self.folder = work / name
        self.folder.mkdir(parents=True, exist_ok=True)
        self.state_file = self.folder / "state.pt"
        self.minutes, self.step, self.seconds = minutes, 0, 0.0
        self._tick = self._saved = time.monotonic()

    def resume(self, objects: dict) -> None:
        """Loads each object's `state_dict` from the last checkpoint, if there is one."""
        if self.state_file.exists():
            state = torch.load(self.state_file, map_location="cpu", weights_only=False)
            for key, value in objects.items():
                value.load_state_dict(state[key])
            self.step, self.seconds = state["step"], state["seconds"]
        self._tick = self._saved = time.monotonic()

    def train(self, objects: dict, loss, log_every=50, after=None, look=None, look_every=None) -> None:
        """Until the budget is spent: backward of `loss()`, a step of `objects["optimizer"]`, then
        `after()`. `look(last)` is called every `look_every` seconds, and once at the end."""
        average, looked = None, self.seconds
        while self.progress < 1:
            value = loss()
            value.backward()
            objects["optimizer"].step(self.step, self.progress)
            if after:
                after()
            average = value.item() if average is None else 0.98 * average + 0.02 * value.item()
            self.advance(objects)
            if self.step % log_every == 0:
                self.log(loss=average)
            if look_every and self.seconds - looked > look_every:
                looked = self.seconds
                look(False)
                self.pause()
        self.save(objects)
        if look:
            look(True)

    @property
    def progress(self) -> float:
        return min(1.0, self.seconds / (60 * self.minutes))

    def advance(self, objects: dict) -> None:
        """Counts one step and saves now and then."""
        now = time.monotonic()
        self.seconds += now - self._tick
        self._tick = now
        self.step += 1
        if now - self._saved > CHECKPOINT_SECONDS:
            self.save(objects)

    def pause(self) -> None:
        """Call after work that is not training (evaluation), so that its time does not count."""
        self._tick = time.monotonic()

    def save(self, objects: dict) -> None:
        state = {key: value.state_dict() for key, value in objects.items()}
        partial = self.state_file.with_suffix(".part")
        torch.save(state | dict(step=self.step, seconds=self.seconds), partial)
        partial.rename(self.state_file)
        self._saved = time.monotonic()
        self.pause()

    def log(self, **values) -> None:
        entry = dict(step=self.step, minutes=round(self.seconds / 60, 2)) | {
            k: round(v, 5) if isinstance(v, float) else v for k, v in values.items()
        }
        with open(self.folder / "log.jsonl", "a") as file:
            file.write(json.dumps(entry) + "\n")
        print(self.folder.name, entry, flush=True)
