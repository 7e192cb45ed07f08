"""The adapter alone, as peft saves and loads it."""

import json
import shutil

from guerdon.export import ExportError, ExportJob, exporter

USAGE = """
```python
from peft import AutoPeftModelForCausalLM
from transformers import AutoTokenizer

model = AutoPeftModelForCausalLM.from_pretrained("{folder}")  # loads {base} too
tokenizer = AutoTokenizer.from_pretrained("{folder}")
```
"""
TOKENIZER = ("tokenizer*", "special_tokens_map.json", "added_tokens.json", "vocab.*", "merges.txt", "*.jinja")


@exporter(check="guerdon_trainers.export.check:lora", library="peft", usage=USAGE)
def lora(job: ExportJob) -> None:
    """The LoRA adapter with its tokenizer: small, to go on training or to serve beside its base model."""
    from guerdon_trainers.export.loading import quiet, tokenizer_of

    if job.adapter is None:
        raise ExportError("there is no adapter, but a whole model: export it as merged_16bit, merged_4bit or gguf")
    for pattern in ("adapter_config.json", "adapter_model*", *TOKENIZER):
        for path in job.adapter.glob(pattern):
            shutil.copyfile(path, job.output / path.name)
    _name_base(job)
    with quiet():
        tokenizer_of(job).save_pretrained(job.output)


def _name_base(job: ExportJob) -> None:
    """peft notes the folder that the base was loaded from; elsewhere only its hub id is of use."""
    file = job.output / "adapter_config.json"
    if job.hub:
        settings = json.loads(file.read_text("utf-8"))
        file.write_text(json.dumps({**settings, "base_model_name_or_path": job.hub}, indent=2) + "\n", "utf-8")
    else:
        job.say(f"the base has no hub id: adapter_config.json names its folder on this machine, {job.model}")
