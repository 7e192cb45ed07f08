"""From trajectories to training rows.

Where the server gave token ids, a row is made of exactly those: each turn's prompt extends what came before, and only
what the model sampled is learnt. A turn whose prompt does not extend the turn before starts a row of its own. Nothing
is tokenised again. Trajectories without ids (another model's, or demonstrations) become rows of messages, with the
indices of those to learn: the policy's replies, each in one row. Examples in a prompt, and replies that the agent
edited, are not the policy's. Each row has the reward of its trajectory: what was earned at the end is the earlier
turns' too.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from guerdon.task import Message
from guerdon.trajectory import Trajectory

IGNORE = -100


def training_rows(trajectories: Iterable[Trajectory]) -> Iterator[dict[str, Any]]:
    """Rows for `TrainingJob.rows`."""
    for trajectory in trajectories:
        turns = trajectory.turns
        whole = turns and all(t.prompt_ids and t.reply_ids for t in turns)
        for row in _id_rows(trajectory) if whole else _message_rows(trajectory):
            yield {**row, "reward": trajectory.reward, "trajectory": trajectory.id}


def _id_rows(trajectory: Trajectory) -> Iterator[dict[str, Any]]:
    ids: list[int] = []
    labels: list[int] = []
    for turn in trajectory.turns:
        prompt, reply = list(turn.prompt_ids), list(turn.reply_ids)
        if prompt[: len(ids)] != ids:
            yield {"input_ids": ids, "labels": labels}
            ids, labels = [], []
        labels = labels + [IGNORE] * (len(prompt) - len(ids)) + reply
        ids = prompt + reply
    if ids:
        yield {"input_ids": ids, "labels": labels}


def is_one(trajectory: Trajectory) -> bool:
    """Whether each turn continues the one before, so that `sequence` learns all of them."""
    return sum(1 for _ in _id_rows(trajectory)) <= 1


def sequence(trajectory: Trajectory) -> dict[str, Any]:
    """A trajectory as one sequence of token ids, for a policy gradient.

    `prompt_ids` is the first prompt; `completion_ids` all that follows, with `mask` 1 where the model sampled and 0 for
    tool results and the template's tokens, and `logprobs` (0 where masked). Where a turn's prompt does not extend what
    came before, the sequence begins there: the earlier turns' tokens are context then, not learnt. Without ids, empty.
    """
    prompt: list[int] = []
    ids: list[int] = []
    mask: list[int] = []
    logprobs: list[float] = []
    for turn in trajectory.turns:
        asked, reply = list(turn.prompt_ids), list(turn.reply_ids)
        if not asked or not reply:
            return {"prompt_ids": [], "completion_ids": [], "mask": [], "logprobs": []}
        whole = prompt + ids
        if not prompt or asked[: len(whole)] != whole:
            prompt, ids, mask, logprobs = asked, [], [], []
        between = asked[len(prompt) + len(ids) :]
        ids += between + reply
        mask += [0] * len(between) + [1] * len(reply)
        sampled = list(turn.logprobs) if len(turn.logprobs) == len(reply) else [0.0] * len(reply)
        logprobs += [0.0] * len(between) + sampled
    return {"prompt_ids": prompt, "completion_ids": ids, "mask": mask, "logprobs": logprobs}


def _message_rows(trajectory: Trajectory) -> Iterator[dict[str, Any]]:
    tools = list(trajectory.tools)
    before: list[Message] = []
    learn: list[int] = []
    for turn, conversation in zip(trajectory.turns, trajectory.conversations(), strict=True):
        if turn.keep < len(before):
            yield {"messages": before, "tools": tools, "learn": learn}
            learn = []
        before = conversation
        learn.append(len(conversation) - 1)
    if before:
        yield {"messages": before, "tools": tools, "learn": learn}


def write_rows(path: Path, trajectories: Sequence[Trajectory]) -> int:
    """Write the training rows of these trajectories as JSONL; how many there are."""
    count = 0
    with path.open("w", encoding="utf-8") as file:
        for count, row in enumerate(training_rows(trajectories), start=1):  # noqa: B007
            file.write(json.dumps(row) + "\n")  # escaped: a model may give half a surrogate pair
    return count
