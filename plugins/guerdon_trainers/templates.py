"""The chat template that rows are rendered with, and the token that ends a turn.

A model keeps its own template. One that has none, as base models, or for which it is asked for, gets the ChatML that
guerdon's own small model is served with: tools in Hermes form, and marks around what the assistant says. The vocabulary
never grows: where `<|im_end|>` is no token of the model's, its end-of-sequence token ends a turn.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from guerdon.errors import TrainingError, near_miss
from guerdon_trainers.tokens import MASKED, is_marked, token_row

END = "<|im_end|>"
PROBE = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Goodbye"}]


@dataclass(frozen=True)
class Template:
    """What was settled: `training` is a template to tokenise rows with in place of the tokenizer's own, where trl has
    one with marks for it; `note` is for the user."""

    note: str
    training: str | None = None


def settle_template(tokenizer: Any, asked: str = "auto", say: Callable[[str], None] = lambda _: None) -> Template:
    """Give the tokenizer the template that is asked for: "auto", "chatml" or a file; its EOS becomes the token that
    ends a turn. (transformers' Trainer sets the model's configuration and generation to the tokenizer's EOS itself.)

    Raises:
        TrainingError: there is no such file, or the template cannot be used.
    """
    training = None
    if asked == "chatml" or (asked == "auto" and not tokenizer.chat_template):
        note = "chat template: ChatML" + (", for the model has none" if asked == "auto" else "")
        tokenizer.chat_template = chatml(tokenizer)
    elif asked == "auto":
        note = "chat template: the model's own"
        training = _training_template(tokenizer)
        if training:
            note += ", with trl's marks for training"
    else:
        note, tokenizer.chat_template = f"chat template: {asked}", _read(Path(asked).expanduser())
    note += _align_end(tokenizer, training)
    say(note)
    return Template(note, training)


def chatml(tokenizer: Any) -> str:
    """guerdon's ChatML, with an end of turn that the tokenizer knows."""
    # a file of the same distribution: what is trained here is what is served
    text = files("guerdon_backends").joinpath("chat_template.jinja").read_text(encoding="utf-8")
    if END in tokenizer.get_vocab():
        return text
    if not tokenizer.eos_token:
        raise TrainingError("The model's tokenizer has neither <|im_end|> nor an end-of-sequence token.")
    return text.replace(END, tokenizer.eos_token)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        beside = [p.name for p in path.parent.glob("*.jinja")]
        hint = near_miss(path.name, ["auto", "chatml", *beside], listing=False)
        raise TrainingError(f"chat_template: {path.absolute()} cannot be read: {error.args[-1]}.{hint}") from None


def _training_template(tokenizer: Any) -> str | None:
    """The model's template with marks, and so that later messages do not change earlier ones, where trl knows it."""
    template = tokenizer.chat_template
    if isinstance(template, str) and is_marked(template):
        return None
    from trl.chat_template_utils import get_training_chat_template

    try:
        found: str | None = get_training_chat_template(tokenizer)
    except Exception:  # a template that it does not know, or that cannot render its probes
        return None
    return found


def _align_end(tokenizer: Any, template: str | None) -> str:
    """Make the token that ends a turn the EOS; what to add to the note."""
    try:
        learnt = [t for t in token_row(tokenizer, PROBE, template=template)["labels"] if t != MASKED]
    except TrainingError:
        return ""
    special = tokenizer.added_tokens_decoder
    last = learnt[-1] if learnt else None
    if last is None or last == tokenizer.eos_token_id:
        return ""
    if last not in special or not special[last].special:
        return f"; it ends a turn with no special token, so nothing teaches the model to stop at {tokenizer.eos_token}"
    before, tokenizer.eos_token = tokenizer.eos_token, str(special[last])
    if not tokenizer.pad_token:
        tokenizer.pad_token = before
    return f"; a turn ends with {tokenizer.eos_token}, which is the end of sequence now (was {before})"
