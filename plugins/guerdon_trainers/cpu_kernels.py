"""trl 1.15.0 on a machine without a GPU: its fused loss, which is a Triton kernel there, in plain torch.

That release computes the log probabilities of every trainer by a kernel that only a GPU can run; 1.16 has a torch
fallback of its own, 1.14 needs none. Same arguments and results as trl's `ChunkedLogProbFunction`.
"""

from typing import Any

CHUNK = 512
"""Tokens whose logits are held at a time."""


def install() -> bool:
    """Put the plain version in place, where the installed trl needs it; true if it did."""
    import torch
    import trl

    if trl.__version__ != "1.15.0" or torch.cuda.is_available():
        return False
    from trl.trainer import utils

    utils._ChunkedLogProbFunction = PlainLogProb
    return True


class PlainLogProb:
    """What trl calls: an autograd function's `apply`, here of operations that torch differentiates by itself."""

    @staticmethod
    def apply(
        hidden: Any,
        weight: Any,
        bias: Any,
        targets: Any,
        temperature: float,
        chunk_size: int,
        softcap: float | None = None,
        logit_scale: float = 1.0,
        outputs: tuple[str, ...] = ("entropy",),
    ) -> tuple[Any, ...]:
        """Log probabilities of `targets`; then entropy, log of the summed squared probabilities, mean logit and
        whether the target is the likeliest token, each `None` unless it is in `outputs`."""
        import torch

        weight = weight.to(hidden.dtype)
        bias = None if bias is None else bias.to(hidden.dtype)
        pieces = []
        for start in range(0, max(len(hidden), 1), CHUNK):
            part = slice(start, start + CHUNK)
            logits = torch.nn.functional.linear(hidden[part], weight, bias).float() * logit_scale
            if softcap is not None:
                logits = softcap * torch.tanh(logits / softcap)
            pieces.append(_figures(logits / temperature, targets[part], outputs))
        return tuple(None if column[0] is None else torch.cat(column) for column in zip(*pieces, strict=True))


def _figures(logits: Any, targets: Any, outputs: tuple[str, ...]) -> tuple[Any, ...]:
    import torch

    norm = torch.logsumexp(logits, -1)
    chosen = logits.gather(-1, targets[:, None]).squeeze(-1) - norm
    entropy = norm - (torch.softmax(logits, -1) * logits).sum(-1) if "entropy" in outputs else None
    with torch.no_grad():
        squares = torch.logsumexp(2 * (logits - norm[:, None]), -1) if "log_sum_sq_probs" in outputs else None
        mean = logits.mean(-1) if "mean_logits" in outputs else None
        top = logits.argmax(-1) == targets if "is_top1" in outputs else None
    return chosen, entropy, squares, mean, top
