"""A tokenizer's vocabulary as the metadata of a GGUF file, read off the fast tokenizer's own description.

llama.cpp knows two kinds that matter here: byte-level BPE ("gpt2"), where it also needs the name of the rule that
splits a text before the merges, and SentencePiece's BPE with bytes to fall back on ("llama"), where it needs scores.
"""

import json
import re
from typing import Any

from guerdon.export import ExportError

LETTERS = r"[^\r\n\p{L}\p{N}]?\p{L}+"
ENDINGS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
REST = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
UPPER, LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
SPLITS = {
    rf"{ENDINGS}|{LETTERS}|\p{{N}}{{1,3}}|{REST}": "llama-bpe",
    rf"{ENDINGS}|{LETTERS}|\p{{N}}|{REST}": "qwen2",
    rf"[^\r\n\p{{L}}\p{{N}}]?{UPPER}*{LOWER}+|[^\r\n\p{{L}}\p{{N}}]?{UPPER}+{LOWER}*|\p{{N}}|"
    r" ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+": "tekken",
}
"""How a text is split before the merges, and llama.cpp's name for it: Llama 3, Qwen, Mistral NeMo."""


def add_tokenizer(writer: Any, model: Any, tokenizer: Any) -> None:
    """Write the vocabulary, the special tokens and the chat template.

    Raises:
        ExportError: the tokenizer is of a kind that has no form here.
    """
    if not getattr(tokenizer, "is_fast", False):
        raise ExportError("no GGUF is made of a model without a fast tokenizer (tokenizer.json)")
    spec = json.loads(tokenizer.backend_tokenizer.to_str())
    bpe = spec["model"]
    if bpe["type"] != "BPE" or not bpe["merges"]:
        kind = f"{bpe['type']} tokenizer" if bpe["type"] != "BPE" else "BPE tokenizer without merges"
        raise ExportError(f"no GGUF is made here of a model with a {kind}, only of BPE with merges")
    bytewise = "ByteLevel" not in [part.get("type") for part in _splitters(spec)]
    tokens, types = _tokens(spec, model.config.vocab_size, bytewise, tokenizer)
    merges = [m if isinstance(m, str) else " ".join(m) for m in bpe["merges"]]
    writer.add_tokenizer_model("llama" if bytewise else "gpt2")
    writer.add_tokenizer_pre("default" if bytewise else _split_name(spec))
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    if bytewise:
        writer.add_token_scores(_scores(tokens, bpe["merges"]))
        writer.add_add_space_prefix(_puts_space(spec))
    else:
        writer.add_token_merges(merges)
    for name in ("bos", "eos", "unk", "pad"):
        if (token := getattr(tokenizer, f"{name}_token_id")) is not None:
            getattr(writer, f"add_{name}_token_id")(token)
    ends = getattr(model.generation_config, "eos_token_id", None)
    others = [end for end in ends if end != tokenizer.eos_token_id] if isinstance(ends, list) else []
    if others:
        writer.add_eot_token_id(others[0])
    first = tokenizer("a")["input_ids"][:1]
    writer.add_add_bos_token(bool(first) and first[0] == tokenizer.bos_token_id)
    if tokenizer.chat_template:
        writer.add_chat_template(_plain(tokenizer.get_chat_template()))


def _tokens(spec: Any, size: int, bytewise: bool, tokenizer: Any) -> tuple[list[str], list[int]]:
    """Every token and its type; rows of the embedding that have no token are padding."""
    import gguf

    kinds = gguf.TokenType
    added = {t["id"]: t for t in spec["added_tokens"]}
    known = {i: t for t, i in spec["model"]["vocab"].items()} | {i: t["content"] for i, t in added.items()}
    if max(known) >= size:
        raise ExportError(f"the tokenizer has tokens up to {max(known)}, and the model only {size} rows for them")

    def kind(i: int) -> int:
        if i not in known:
            return int(kinds.UNUSED)
        if bytewise and re.fullmatch(r"<0x[0-9A-F]{2}>", known[i]):
            return int(kinds.BYTE)
        if bytewise and i == tokenizer.unk_token_id:
            return int(kinds.UNKNOWN)
        if i in added:
            return int(kinds.CONTROL if added[i]["special"] else kinds.USER_DEFINED)
        return int(kinds.NORMAL)

    return [known.get(i, f"[PAD{i}]") for i in range(size)], [kind(i) for i in range(size)]


def _splitters(spec: Any) -> list[dict[str, Any]]:
    whole = spec["pre_tokenizer"] or {}
    parts: list[dict[str, Any]] = whole.get("pretokenizers", [whole])
    return parts


def _split_name(spec: Any) -> str:
    """llama.cpp's name for how a byte-level tokenizer splits a text before the merges."""
    parts = _splitters(spec)
    kinds = [part.get("type") for part in parts]
    splits = [part["pattern"].get("Regex", "") for part in parts if part.get("type") == "Split"]
    if kinds == ["ByteLevel"] and parts[0].get("use_regex", True):
        return "gpt-2"
    if kinds == ["Digits", "ByteLevel"] and parts[0]["individual_digits"] and parts[1].get("use_regex", True):
        return "smollm"
    if kinds == ["Split", "ByteLevel"] and splits[0] in SPLITS:
        return SPLITS[splits[0]]
    raise ExportError(
        f"how this tokenizer splits a text ({', '.join(map(str, kinds))}) has no name here that llama.cpp knows; "
        "export merged_16bit and use llama.cpp's convert_hf_to_gguf.py on that folder"
    )


def _scores(tokens: list[str], merges: list[Any]) -> list[float]:
    """SentencePiece merges by score, tokenizers by rank: the earlier a token is made, the higher its score."""
    ranks: dict[str, int] = {}
    for rank, merge in enumerate(merges):
        ranks.setdefault("".join(merge.split(" ") if isinstance(merge, str) else merge), rank)
    return [-float(ranks.get(token, len(merges))) for token in tokens]


def _puts_space(spec: Any) -> bool:
    """Whether a text gets a space before its first word."""
    normalizer, splitter = spec["normalizer"] or {}, spec["pre_tokenizer"] or {}
    prepends = any(n.get("type") == "Prepend" for n in normalizer.get("normalizers", [normalizer]))
    return prepends or splitter.get("prepend_scheme") in ("always", "first")


def _plain(template: str) -> str:
    """A chat template without the marks around the assistant's words, which only training needs."""
    template = re.sub(r"\{%(-?)\s*generation\s*(-?)%\}", r"{%\1 if true \2%}", template)
    return re.sub(r"\{%(-?)\s*endgeneration\s*(-?)%\}", r"{%\1 endif \2%}", template)
