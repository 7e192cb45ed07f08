"""Is an export what was trained? Both are loaded, in plain transformers, and asked the same.

The trained model (base and adapter, unmerged, float32) answers the prompts greedily. The exported one then reads the
same conversations, and says at each token of the answers which one it would have chosen: where it agrees everywhere its
own greedy answer is the same. Beside that, the log-probabilities of the first token are compared over the
whole vocabulary, weighted by the trained model's probabilities.

The bounds are by what an overfitted SmolLM2-135M needs, which rounding hurts more than larger models: it is off by 0.07
in 16 bits, by 0.17 in 8, by 1.2 and 2 in two formats of 4; without its adapter by 5.
"""

import contextlib
import copy
import functools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from guerdon.export import ExportJob
from guerdon_trainers.export.loading import load, quiet, tokenizer_of, trained, with_adapter

TOKENS = 24
"""Of each answer."""


@dataclass(frozen=True)
class Bound:
    """The least share of tokens that must be the same, and the largest mean difference of log-probabilities."""

    tokens: float
    mean: float


EXACT = Bound(1.0, 1e-4)
SIXTEEN = Bound(0.9, 0.2)
EIGHT = Bound(0.85, 0.5)
FOUR = Bound(0.5, 3.0)


@dataclass(frozen=True)
class Answer:
    """What the trained model said: token ids of the prompt and its answer, log-probabilities of the first token."""

    prompt: list[int]
    answer: list[int]
    first: Any


Row = dict[str, Any]


def lora(job: ExportJob, settings: Mapping[str, Any]) -> Iterator[Row]:
    import torch

    yield from _compare(job, {"adapter": lambda: with_adapter(load(job.model, torch.float32), job.output)}, EXACT)


def merged_16bit(job: ExportJob, settings: Mapping[str, Any]) -> Iterator[Row]:
    import torch

    yield from _compare(job, {"model": lambda: load(str(job.output), torch.float32)}, SIXTEEN)


def merged_4bit(job: ExportJob, settings: Mapping[str, Any]) -> Iterator[Row]:
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    yield from _compare(job, {"model": lambda: load(str(job.output), "auto", device_map={"": device})}, FOUR)


def gguf(job: ExportJob, settings: Mapping[str, Any]) -> Iterator[Row]:
    from guerdon_trainers.export.gguf import bits

    with quiet():
        answers = _answers(job)
        for path in sorted(job.output.glob("*.gguf")):
            bound = {16: SIXTEEN, 8: EIGHT}.get(bits(path.stem), FOUR)
            yield _row(path.name, _read_gguf(job, path), answers, bound)


def _read_gguf(job: ExportJob, path: Path) -> Any:
    """The model in a GGUF file; how it scales positions is the base's, which transformers' reader leaves out."""
    import torch
    from transformers import AutoConfig

    with _read_once():
        config = AutoConfig.from_pretrained(path.parent, gguf_file=path.name)
        config.rope_parameters = copy.deepcopy(AutoConfig.from_pretrained(job.model).rope_parameters)
        return load(str(path.parent), torch.float32, gguf_file=path.name, config=config)


@contextlib.contextmanager
def _read_once() -> Iterator[None]:
    """Reads a GGUF once, where transformers does several times, with one table of names for all modules."""
    import gguf

    names = ("GGUFReader", "get_tensor_name_map")
    plain = {name: getattr(gguf, name) for name in names}
    try:
        for name in names:
            setattr(gguf, name, functools.cache(plain[name]))
        yield
    finally:
        for name in names:
            setattr(gguf, name, plain[name])


def _compare(job: ExportJob, exported: Mapping[str, Callable[[], Any]], bound: Bound) -> Iterator[Row]:
    with quiet():
        answers = _answers(job)
        for name, load_it in exported.items():
            row = _row(name, load_it(), answers, bound)
            yield {**row, **_same_tokenizer(job, row)}


def _answers(job: ExportJob) -> list[Answer]:
    """The trained model's, to each prompt."""
    import torch

    model, tokenizer = trained(job), tokenizer_of(job)
    found = []
    for messages in job.prompts:
        prompt = _ids(tokenizer, messages)
        with torch.inference_mode():
            ids = model.generate(
                torch.tensor([prompt]), attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
                max_new_tokens=TOKENS, do_sample=False, pad_token_id=tokenizer.pad_token_id or 0,
            )[0].tolist()  # fmt: skip
            first = _logprobs(model, prompt)[-1].clone()
        found.append(Answer(prompt, ids[len(prompt) :], first))
    return found


def _ids(tokenizer: Any, messages: list[dict[str, Any]]) -> list[int]:
    if tokenizer.chat_template:
        ids = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=True)["input_ids"]
    else:
        ids = tokenizer("\n\n".join(str(m.get("content") or "") for m in messages))["input_ids"]
    return list(ids)


def _logprobs(model: Any, ids: list[int]) -> Any:
    import torch

    with torch.inference_mode():
        logits = model(torch.tensor([ids], device=model.device)).logits[0]
    return torch.log_softmax(logits.float(), -1).cpu()


def _row(name: str, model: Any, answers: list[Answer], bound: Bound) -> Row:
    """What one exported file came to."""
    same, total, whole, means, most = 0, 0, 0, [], 0.0
    for one in answers:
        found = _logprobs(model, one.prompt + one.answer)[len(one.prompt) - 1 : -1]
        agree = (found.argmax(-1).tolist()[i] == token for i, token in enumerate(one.answer))
        hits = sum(agree)
        same, total, whole = same + hits, total + len(one.answer), whole + (hits == len(one.answer))
        off = (found[0] - one.first).abs()
        means.append(float((off * one.first.exp()).sum()))
        most = max(most, float(off[one.first > LIKELY].max()))
    tokens, mean = same / total, sum(means) / len(means)
    ok = tokens >= bound.tokens and mean <= bound.mean
    says = (
        f"{whole} of {len(answers)} answers and {tokens:.1%} of the tokens are the trained model's; log-probabilities "
        f"differ by {mean:.2g} (mean) and {most:.2g} (most)"
    )
    if not ok:
        says += f"; the bounds are {bound.tokens:.0%} of the tokens and {bound.mean:g}"
    return {"file": name, "ok": ok, "says": says, "answers": whole, "prompts": len(answers), "tokens": tokens,
            "mean": mean, "most": most}  # fmt: skip


LIKELY = -9.2
"""A log-probability of one in ten thousand: rarer tokens count for no one."""


def _same_tokenizer(job: ExportJob, row: Row) -> Row:
    """An exported folder's tokenizer must make of the prompts what the trained one does."""
    from transformers import AutoTokenizer

    ours, theirs = tokenizer_of(job), AutoTokenizer.from_pretrained(job.output)
    if all(_ids(ours, m) == _ids(theirs, m) for m in job.prompts):
        return {}
    return {"ok": False, "says": f"{row['says']}; its tokenizer makes other tokens of the prompts"}
