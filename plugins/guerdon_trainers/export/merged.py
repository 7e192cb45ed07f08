"""The adapter merged into its base: a model folder that plain transformers, vLLM and others load."""

from guerdon.export import ExportError, ExportJob, exporter

USAGE = """
```python
from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained("{folder}", dtype="auto")
tokenizer = AutoTokenizer.from_pretrained("{folder}")
```
"""


@exporter(check="guerdon_trainers.export.check:merged_16bit", usage=USAGE)
def merged_16bit(job: ExportJob) -> None:
    """One model in 16 bits, the adapter merged into the base's own weights (never into quantised ones)."""
    from guerdon_trainers.export.loading import in_16_bits, merged, quiet, tokenizer_of

    with quiet():
        in_16_bits(merged(job)).save_pretrained(job.output)
        tokenizer_of(job).save_pretrained(job.output)


@exporter(
    check="guerdon_trainers.export.check:merged_4bit",
    usage=f"{USAGE}\nNeeds bitsandbytes. Rounded to 4 bits: answers differ.",
)
def merged_4bit(job: ExportJob) -> None:
    """One model in 4 bits (bitsandbytes NF4), for inference where memory is short.

    Rounding to 4 bits loses quality; what differs is measured and said. To train further, take merged_16bit or lora.
    """
    import shutil
    from importlib.util import find_spec

    if find_spec("bitsandbytes") is None:
        raise ExportError("merged_4bit needs bitsandbytes, which is not installed: pip install 'guerdon[quantize]'")
    import torch
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    from guerdon_trainers.export.loading import in_16_bits, merged, quiet, tokenizer_of

    whole = job.output / ".16bit"
    with quiet():
        model = in_16_bits(merged(job))
        kind = model.dtype
        model.save_pretrained(whole)
        del model
        job.say("rounding to 4 bits, which loses quality")
        config = BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=kind
        )
        device = "cuda" if torch.cuda.is_available() else "cpu"
        rounded = AutoModelForCausalLM.from_pretrained(
            whole, dtype=kind, quantization_config=config, device_map={"": device}
        )
        rounded.save_pretrained(job.output)
        tokenizer_of(job).save_pretrained(job.output)
        shutil.rmtree(whole)
