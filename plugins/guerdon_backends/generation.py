"""Continuous batching over a transformers model: requests join and leave the batch between two steps.

One thread owns the model. The KV cache is a table of rows; the rows in use are always the first ones, so a step works
on views and nothing is padded or copied. A prompt is run alone, by plain transformers (from where it differs from the
prompt before: agents share their instructions and tools), and its keys and values are put into the next free row. A
step then feeds every row its last token, each at its own position.
"""

import queue
import random
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any

import torch
import torch.nn.functional as F
from transformers import AttentionInterface, AttentionMaskInterface, DynamicCache
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from guerdon_backends.lora import Adapter, Swapper

ATTENTION = "guerdon_grouped"


@dataclass(eq=False)
class Job:
    """One request. `done` is called once, from the engine's thread, with its replies or an exception; `heard` after
    each token of a reply."""

    prompt: list[int]
    done: Callable[["list[Reply] | Exception"], None]
    heard: Callable[["Reply"], None] | None = None
    n: int = 1
    max_tokens: int = 1 << 30
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    ends: frozenset[int] = frozenset()
    adapter: Adapter | None = None
    cancelled: bool = False
    replies: "list[Reply]" = field(default_factory=list)


@dataclass(eq=False)
class Reply:
    """One sampled reply: the ids, the end token included, and their log-probabilities as sampled from."""

    job: Job
    index: int
    rng: random.Random
    ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    finish: str = ""
    text: str = ""


class Engine:
    """Runs jobs. `submit` and `load` may be called from any thread, `run` is the thread's loop."""

    def __init__(self, model: Any, tokenizer: Any, max_batch: int) -> None:
        config = model.config.get_text_config()
        kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
        if not kinds <= {"full_attention", "sliding_attention"}:
            raise ValueError(f"this server knows attention models only; the model has layers of {sorted(kinds)}")
        AttentionInterface.register(ATTENTION, grouped_attention)
        AttentionMaskInterface.register(ATTENTION, sdpa_mask)
        model.set_attn_implementation(ATTENTION)
        self.model = model.eval()
        self.tokenizer = tokenizer
        self.max_batch = max_batch
        # within its window, sliding attention is full attention
        window = getattr(config, "sliding_window", None) if "sliding_attention" in kinds else None
        self.context: int = min(config.max_position_embeddings, window or 1 << 30)
        ends = model.generation_config.eos_token_id
        self.ends = {tokenizer.eos_token_id, *(ends if isinstance(ends, list) else [ends])} - {None}
        self.adapters = Swapper(model)
        self.cache = RowCache()
        self.rows: list[Reply] = []
        self._inbox: queue.SimpleQueue[Job] = queue.SimpleQueue()
        self._waiting: deque[Reply] = deque()
        self._last: tuple[list[int], DynamicCache, torch.Tensor | None] = ([], DynamicCache(), None)

    def submit(self, job: Job) -> None:
        self._inbox.put(job)

    def run(self) -> None:
        with torch.inference_mode():
            while True:
                try:
                    self._admit()
                    self._step()
                except Exception as error:
                    self._fail(error)

    def _admit(self) -> None:
        """Fill the batch; wait when there is nothing to do. One adapter at a time: others wait for their turn."""
        while len(self.rows) < self.max_batch:
            while not self._inbox.empty() or not (self.rows or self._waiting):
                job = self._inbox.get()
                seeds = random.Random(job.seed)
                self._waiting.extend(Reply(job, i, random.Random(seeds.getrandbits(64))) for i in range(job.n))
            if not self._waiting:
                return
            reply = self._waiting[0]
            if self.rows and reply.job.adapter is not self.adapters.active:
                return
            if not reply.job.cancelled:
                self._start(reply)
            self._waiting.popleft()

    def _start(self, reply: Reply) -> None:
        """Run the prompt, put it into the next row, and sample the first token."""
        job = reply.job
        if job.adapter is not self.adapters.active:
            self._forget()
            self.adapters.use(job.adapter)
        cache, logits = self._run_prompt(job.prompt)
        self.cache.put(len(self.rows), cache)
        self._append(reply, *sample(logits.clone(), [reply]))
        if not reply.finish:
            self.rows.append(reply)

    def _run_prompt(self, prompt: list[int]) -> tuple[DynamicCache, torch.Tensor]:
        """Its keys and values, and the logits after it; what it shares with the last prompt is not run again."""
        last, old, logits = self._last
        if logits is not None and last == prompt:  # a group's rollouts begin alike
            return old, logits
        pairs = zip(last, prompt[:-1], strict=False)
        shared = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
        cache = DynamicCache()
        for index, layer in enumerate(old.layers if shared else ()):
            cache.update(layer.keys[:, :, :shared], layer.values[:, :, :shared], index)
        ids = torch.tensor([prompt[shared:]], device=self.model.device)
        positions = torch.arange(shared, len(prompt), device=ids.device)[None]
        out = self.model(ids, position_ids=positions, past_key_values=cache, use_cache=True, logits_to_keep=1)
        logits = out.logits[:, -1].float()
        self._last = (prompt, cache, logits)
        return cache, logits

    def _forget(self) -> None:
        self._last = ([], DynamicCache(), None)

    def _step(self) -> None:
        """One token for every row; finished and cancelled rows leave."""
        self._drop([i for i, r in enumerate(self.rows) if r.job.cancelled])
        if not self.rows:
            return
        device = self.model.device
        filled = [len(r.job.prompt) + len(r.ids) - 1 for r in self.rows]
        lengths = torch.tensor(filled, device=device)
        ids = torch.tensor([[r.ids[-1]] for r in self.rows], device=device)
        mask = self.cache.prepare(lengths, max(filled) + 1)
        out = self.model(
            ids, position_ids=lengths[:, None], attention_mask=mask, past_key_values=self.cache, use_cache=True
        )
        tokens, logprobs = sample(out.logits[:, -1].float(), self.rows)
        for reply, token, logprob in zip(self.rows, tokens, logprobs, strict=True):
            self._append(reply, [token], [logprob])
        self._drop([i for i, r in enumerate(self.rows) if r.finish])

    def _append(self, reply: Reply, tokens: list[int], logprobs: list[float]) -> None:
        job = reply.job
        reply.ids += tokens  # streams read along: what they look at first comes last
        reply.logprobs += logprobs
        if self.ended(reply):
            reply.text, reply.finish = self.decode(reply.ids[:-1]), "stop"
        elif job.stop and (cut := first_of(job.stop, text := self.decode(reply.ids))) >= 0:
            reply.text, reply.finish = text[:cut], "stop"
        elif len(reply.ids) >= job.max_tokens or len(job.prompt) + len(reply.ids) >= self.context:
            reply.text, reply.finish = self.decode(reply.ids), "length"
        if reply.finish:
            job.replies.append(reply)
        if job.heard:
            job.heard(reply)
        if reply.finish and len(job.replies) == job.n:
            job.done(sorted(job.replies, key=lambda r: r.index))

    def ended(self, reply: Reply) -> bool:
        """Whether its last token is one that ends a reply."""
        return reply.ids[-1] in self.ends or reply.ids[-1] in reply.job.ends

    def decode(self, ids: list[int]) -> str:
        return str(self.tokenizer.decode(ids, skip_special_tokens=True))

    def _drop(self, leaving: list[int]) -> None:
        for i in reversed(leaving):
            last = self.rows.pop()
            if i < len(self.rows):
                self.rows[i] = last
                self.cache.move(len(self.rows), i)

    def _fail(self, error: Exception) -> None:
        """Out of memory, a broken adapter: tell those concerned and go on."""
        jobs = {r.job: None for r in [*self.rows, *list(self._waiting)[:1]]}
        self._waiting = deque(r for r in self._waiting if r.job not in jobs)
        self.rows = []
        self._forget()
        for job in jobs:
            job.done(error)


class RowCache:
    """Keys and values by row, for transformers' models: `update` is what their attention layers call."""

    def __init__(self) -> None:
        self.layers: list[list[torch.Tensor]] = []
        self._rows = torch.empty(0, dtype=torch.long)
        self._lengths = torch.empty(0, dtype=torch.long)
        self._width = 0

    def put(self, row: int, cache: DynamicCache) -> None:
        """Fill a row from a cache that holds one prompt."""
        for index, layer in enumerate(cache.layers):
            if index == len(self.layers):
                shape = (1, layer.keys.shape[1], 256, layer.keys.shape[3])
                self.layers.append([layer.keys.new_zeros(shape), layer.values.new_zeros(shape)])
            length = layer.keys.shape[2]
            self._reserve(index, row + 1, length)
            for table, new in zip(self.layers[index], (layer.keys, layer.values), strict=True):
                table[row, :, :length] = new[0]

    def move(self, source: int, target: int) -> None:
        """Copy what is filled; called after a step, so `_width` covers every row."""
        for tables in self.layers:
            for table in tables:
                table[target, :, : self._width] = table[source, :, : self._width]

    def prepare(self, lengths: torch.Tensor, width: int) -> torch.Tensor:
        """Make room for one more token a row, the longest of which then has `width`; the mask of who sees what."""
        self._rows = torch.arange(len(lengths), device=lengths.device)
        self._lengths = lengths
        self._width = width
        for index in range(len(self.layers)):
            self._reserve(index, len(lengths), self._width)
        columns = torch.arange(self._width, device=lengths.device)
        return (columns[None, :] <= lengths[:, None])[:, None, None, :]

    def update(
        self, keys: torch.Tensor, values: torch.Tensor, layer: int, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        count = len(self._rows)
        views = []
        for table, new in zip(self.layers[layer], (keys, values), strict=True):
            table[self._rows, :, self._lengths] = new[:, :, 0]
            views.append(table[:count, :, : self._width])
        return views[0], views[1]

    def _reserve(self, index: int, rows: int, width: int) -> None:
        """Double what is too small. Pages that nothing was written to take no memory on a CPU."""
        have = self.layers[index][0].shape
        if rows <= have[0] and width <= have[2]:
            return
        rows = have[0] if rows <= have[0] else max(rows, 2 * have[0])
        width = have[2] if width <= have[2] else max(width, 2 * have[2])
        for side, old in enumerate(self.layers[index]):
            new = old.new_zeros((rows, have[1], width, have[3]))
            new[: have[0], :, : have[2]] = old
            self.layers[index][side] = new


def grouped_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Attention of one new token a row, the query heads of a group taken as queries of their one key head.

    transformers repeats keys and values for each query head instead: most of a step at 16 rows of 500 tokens.
    """
    rows, heads, length, _ = query.shape
    if length > 1 or attention_mask is None:
        result: tuple[torch.Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, **kwargs
        )
        return result
    groups = query.view(rows, key.shape[1], heads // key.shape[1], -1)
    out = F.scaled_dot_product_attention(groups, key, value, attn_mask=attention_mask, scale=scaling)
    return out.reshape(rows, 1, heads, -1), None


def sample(logits: torch.Tensor, replies: Sequence[Reply]) -> tuple[list[int], list[float]]:
    """The next token of each row and its log-probability, after temperature, top_k and top_p (greedy at temperature 0).

    Changes `logits`. Each reply draws from its own generator, so its tokens do not depend on who shares the batch.
    """
    jobs = [r.job for r in replies]
    device = logits.device
    logits /= torch.tensor([[j.temperature or 1.0] for j in jobs], device=device)
    some = [i for i, j in enumerate(jobs) if j.temperature and (j.top_k or j.top_p < 1)]
    if some:
        rows = torch.tensor(some, device=device)
        logits[rows] = restricted(logits[rows], [jobs[i].top_k for i in some], [jobs[i].top_p for i in some])
    logprobs = torch.log_softmax(logits, dim=-1)
    tokens = logits.argmax(dim=-1)
    warm = [i for i, job in enumerate(jobs) if job.temperature]
    if warm:
        rows = torch.tensor(warm, device=device)
        sums = logprobs[rows].exp().cumsum(dim=-1, dtype=torch.double)
        draws = torch.tensor([[replies[i].rng.random()] for i in warm], dtype=torch.double, device=device)
        tokens[rows] = torch.searchsorted(sums, draws * sums[:, -1:], right=True).squeeze(-1)
    return tokens.tolist(), logprobs.gather(-1, tokens[:, None]).squeeze(-1).tolist()


def restricted(logits: torch.Tensor, top_k: list[int], top_p: list[float]) -> torch.Tensor:
    """Each row with -inf for all but its `top_k` likeliest tokens (0: all), and of these the fewest whose probabilities
    reach its `top_p`."""
    size = logits.shape[-1]
    ordered, index = logits.sort(dim=-1, descending=True)
    most = torch.tensor([[k or size] for k in top_k], device=logits.device)
    ordered = ordered.masked_fill(torch.arange(size, device=logits.device) >= most, -torch.inf)
    probs = torch.softmax(ordered, dim=-1)
    enough = probs.cumsum(-1) - probs >= torch.tensor([[p] for p in top_p], device=logits.device)
    # rounding may have the sum reach 1 early: with top_p 1 all stay
    enough &= torch.tensor([[p < 1] for p in top_p], device=logits.device)
    return torch.empty_like(logits).scatter_(-1, index, ordered.masked_fill(enough, -torch.inf))


def first_of(stops: Sequence[str], text: str) -> int:
    """Where the first stop string begins, or -1."""
    return min((at for s in stops if (at := text.find(s)) >= 0), default=-1)
