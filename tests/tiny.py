"""Random models that are made in a moment, and a tokenizer of one token a byte. Needs torch where it is called."""

from pathlib import Path
from typing import Any


def byte_tokenizer(eos: str = "<|im_end|>", *more: str, template: str | None = None) -> Any:
    """A real fast tokenizer; `more` are further special tokens."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    letters = {letter: i for i, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    bare = Tokenizer(models.BPE(vocab=letters, merges=[]))
    bare.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bare.decoder = decoders.ByteLevel()
    made = PreTrainedTokenizerFast(tokenizer_object=bare, eos_token=eos, pad_token=eos)
    made.add_special_tokens({"additional_special_tokens": list(more)})
    made.chat_template = template
    return made


def save_model(folder: Path, tokenizer: Any, **config: Any) -> str:
    """A Llama of two thin layers in this folder, with its tokenizer."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    ends = {"bos_token_id": None, "eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.eos_token_id}
    LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), **sizes | ends | config)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)
