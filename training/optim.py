"""Muon for weight matrices, AdamW for the rest, and a learning rate that follows the clock."""

import torch


def orthogonalize(update: torch.Tensor, steps: int = 5) -> torch.Tensor:
    """Nearest semi-orthogonal matrix to `update`, roughly, by Muon's quintic Newton-Schulz
    iteration (K. Jordan, 2024).

    Every iterate is a polynomial of the Gram matrix times the input. A wide matrix is therefore
    iterated on its small Gram matrix, which needs f32: rounding there makes eigenvalues negative,
    and the iteration blows those up (in bf16 the update is useless).
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    x = update if update.shape[0] <= update.shape[1] else update.T
    x = x / (x.norm() + 1e-7)
    if x.shape[1] >= 6 * x.shape[0]:
        gram = x @ x.T
        identity = torch.eye(len(gram))
        total = identity
        for _ in range(steps):
            factor = a * identity + b * gram + c * gram @ gram
            total = factor @ total
            gram = factor @ gram @ factor
        x = total @ x
    else:
        x = x.bfloat16()
        for _ in range(steps):
            gram = x @ x.T
            x = a * x + (b * gram + c * gram @ gram) @ x
        x = x.to(update.dtype)
    return x if update.shape[0] <= update.shape[1] else x.T


class Muon(torch.optim.Optimizer):
    """Momentum SGD whose update is orthogonalised. Convolutions count as [out, in * kernel], in
    groups of at most `GROUP` rows: the cost grows with the square of the rows, and whole, the two
    upsampling convolutions would take a quarter of the autoencoder's training."""

    GROUP = 128

    def __init__(self, params, lr: float, momentum: float = 0.95):
        super().__init__(params, dict(lr=lr, momentum=momentum))

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p]
                if not state:
                    state["momentum"] = torch.zeros_like(p)
                buffer = state["momentum"].lerp_(p.grad, 1 - group["momentum"])
                update = p.grad.lerp(buffer, group["momentum"])  # Nesterov
                rows = self.GROUP if p.ndim > 2 else p.shape[0]
                parts = update.flatten(1).split(rows)
                update = torch.cat([orthogonalize(part) for part in parts])
                scale = max(1.0, update.shape[0] / update.shape[1]) ** 0.5
                p.add_(update.view_as(p), alpha=-group["lr"] * scale)


@torch.no_grad()
def follow(slow: torch.nn.Module, fast: torch.nn.Module, decay: float) -> None:
    """Moves the parameters of a moving average towards those that are trained."""
    for a, b in zip(slow.parameters(), fast.parameters()):
        a.lerp_(b, 1 - decay)


class Optimizer:
    """Both optimizers under one learning-rate schedule: warm-up by steps, then constant, then
    linear to zero over the last `decay` of the run."""

    def __init__(self, matrices, others, muon_lr, adam_lr, warmup=100, decay=0.5):
        self.parts = [
            Muon(matrices, muon_lr),
            torch.optim.AdamW(others, adam_lr, betas=(0.9, 0.98), weight_decay=0.0),
        ]
        self.base = [muon_lr, adam_lr]
        self.warmup, self.decay = warmup, decay

    def step(self, step: int, progress: float) -> None:
        factor = min(1.0, (step + 1) / self.warmup) * min(1.0, (1 - progress) / self.decay)
        for part, lr in zip(self.parts, self.base):
            for group in part.param_groups:
                group["lr"] = lr * max(factor, 0.0)
            part.step()
            part.zero_grad(set_to_none=True)

    def state_dict(self):
        return [part.state_dict() for part in self.parts]

    def load_state_dict(self, states):
        for part, state in zip(self.parts, states):
            part.load_state_dict(state)
