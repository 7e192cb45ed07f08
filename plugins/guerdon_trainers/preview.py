"""The rows of sft as it will see them, for `guerdon data preview`: the same template, tokens and labels."""

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from guerdon.preview import PreviewRow
from guerdon_trainers.templates import settle_template
from guerdon_trainers.tokens import MASKED, TokenRow, whole_row


def preview(model: str, rows: Sequence[Mapping[str, Any]], settings: Mapping[str, Any]) -> list[PreviewRow]:
    """The rows as tokens of this model's tokenizer, with sft's `max_length`, `learn` and `chat_template`.

    Raises:
        TrainingError: as a training would.
    """
    import transformers

    transformers.utils.logging.set_verbosity_error()
    tokenizer = transformers.AutoTokenizer.from_pretrained(model)
    template = settle_template(tokenizer, settings.get("chat_template", "auto"))
    longest, learn = settings.get("max_length"), settings.get("learn", "assistant")
    return [
        _shown(tokenizer, whole_row(tokenizer, row, f"Row {i}", learn=learn, template=template.training), longest)
        for i, row in enumerate(rows, 1)
    ]


def _shown(tokenizer: Any, row: TokenRow, longest: int | None) -> PreviewRow:
    ids, labels = row["input_ids"][:longest], row["labels"][:longest]
    pairs = groupby(zip(ids, labels, strict=True), key=lambda pair: pair[1] != MASKED)
    pieces = [(str(tokenizer.decode([i for i, _ in run])), learnt) for learnt, run in pairs]
    trained = sum(label != MASKED for label in labels)
    return PreviewRow(pieces, len(ids), trained, len(row["input_ids"]) - len(ids))
