"""Exports: what is written, that it is the trained model, and what is said when it is not."""

import base64
import json
import shutil
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from guerdon.errors import GuerdonError
from guerdon.export import ExportError, ExportJob, check_hub, export, push
from guerdon.export_command import export as command
from guerdon.export_source import PROMPTS, base_of, find_source
from guerdon.plugins import Plugins
from guerdon.registry import Registry
from guerdon.store import Run
from guerdon.task import Task

TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.role == 'assistant' %}{% generation %}{{ m.content }}"
    "{%- endgeneration -%}{% else %}{{ m.content }}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
ASKED = tuple([{"role": "user", "content": text}] for text in PROMPTS)

# -- the way of an export, with exporters that need nothing ------------------------------------------------------------

TOYS = '''
import os
from guerdon.export import exporter

@exporter(check="toy_exports:as_it_was", library="toys", usage="Open {folder}, made of {base}.")
def copy(job, *, factor: int = 1):
    """Copies."""
    job.say(f"copying {job.name}")
    (job.output / "model.txt").write_text(str(factor))
    (job.output / "model.txt").chmod(0o600)

def as_it_was(job, settings):
    same = (job.output / "model.txt").read_text() == "1"
    yield {"file": "model.txt", "ok": same, "says": f"asked {len(job.prompts)} things"}

def nothing(job):
    """Writes nothing."""

def crash(job):
    """Dies."""
    print("about to die")
    os._exit(3)

def wrong(job):
    """Raises."""
    raise ValueError("no luck")

def lacking(job):
    """Wants what is not there."""
    raise ImportError("it wants luck")
'''


@pytest.fixture
def toys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder to be in, with a model folder `base`, and toy exporters on the path."""
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "toy_exports.py").write_text(TOYS)
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "config.json").write_text("{}")
    (tmp_path / "base" / "README.md").write_text("---\nlicense: mit\n---\n# Base\n")
    monkeypatch.syspath_prepend(str(tmp_path / "lib"))
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    sys.modules.pop("toy_exports", None)


def invoke(*args: str) -> Any:
    """The command; the JSON that it prints, or the error that it raises."""
    done = CliRunner().invoke(command, [*args, "--json"], catch_exceptions=True)
    if isinstance(done.exception, GuerdonError):
        raise done.exception
    assert done.exit_code == 0, done.output
    return json.loads(done.output)


def test_an_export_is_checked_described_and_named(toys: Path) -> None:
    found = invoke("base", "--format", "toy_exports:copy")
    target = toys / "exports" / "base-copy"
    assert (found["output"], found["check"][0]["says"]) == (str(target), f"asked {len(PROMPTS)} things")
    assert {f["name"] for f in found["files"]} == {"model.txt", "README.md"}
    card = (target / "README.md").read_text()
    assert "license: mit\nlibrary_name: toys\n" in card
    assert "Open ., made of base." in card
    assert [p.name for p in target.parent.iterdir()] == ["base-copy"]  # no log, nothing partial
    assert len({p.stat().st_mode for p in target.iterdir()}) == 1  # by the umask, for a server of another user

    with pytest.raises(ExportError, match=r"there is already .*--overwrite"):
        invoke("base", "--format", "toy_exports:copy")
    (target / "old").touch()
    invoke("base", "--format", "toy_exports:copy", "--overwrite")
    assert not (target / "old").exists()


def test_what_differs_too_much_is_kept_under_another_name(toys: Path) -> None:
    with pytest.raises(ExportError, match=r"not the trained model:\n  model.txt: asked .*\nIt is kept in .*x.failed"):
        invoke("base", "factor=2", "--format", "toy_exports:copy", "--output", "x")
    assert (toys / "x.failed" / "model.txt").read_text() == "2"
    assert not (toys / "x").exists()


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("toy_exports:nothing", "wrote nothing"),
        ("toy_exports:crash", r"(?s)ended with exit code 3.*\| about to die"),
        ("toy_exports:wrong", r"(?s)ValueError: no luck.*its log: "),
        ("toy_exports:lacking", "ImportError: it wants luck"),
        ("merged_8bit", "no format 'merged_8bit': .*--quantize q8_0"),
        ("nvfp4", "llm-compressor"),
        ("ggfu", "no exporter 'ggfu'. Did you mean 'gguf'"),
    ],
)
def test_what_goes_wrong_is_said_and_leaves_nothing(toys: Path, name: str, says: str) -> None:
    with pytest.raises(GuerdonError, match=says):
        invoke("base", "--format", name)
    assert [p.suffix for p in toys.glob("exports/*")] in ([], [".log"])


def test_settings_are_the_formats_own(toys: Path) -> None:
    with pytest.raises(GuerdonError, match="exporter 'lora' has no setting 'quantize'"):
        invoke("base", "--quantize", "q8_0")
    pytest.importorskip("peft")
    said: list[str] = []
    with pytest.raises(ExportError, match="no adapter, but a whole model: export it as merged_16bit"):
        export(find_source("base", toys), "adapter", registry=Registry(Plugins()), say=said.append)
    assert said == ["note: the format 'adapter' is called 'lora' here"]
    assert not any(toys.glob("exports/*"))  # a log is kept of what is not understood only


# -- what is exported --------------------------------------------------------------------------------------------------


def test_of_a_run_it_is_the_newest_checkpoint(toys: Path) -> None:
    recipe = f"""
model: {toys / "base"}
data: {{path: /home/someone/rows.jsonl}}
rewards: [numeric, {{xml_format: {{weight: 0.5}}}}, {{/home/someone/mine.py:mine: {{url: "http://me:pw@host/"}}}}]
trainer: {{sft: {{epochs: 2}}}}
backend: {{openai: {{api_key: sk-secret, url: "${{URL}}"}}}}
"""
    info = {"name": "sums", "folder": str(toys), "seed": 0, "versions": {"guerdon": "9.9", "torch": "8.8"}}
    run = Run.create(toys / "runs", "sums", recipe, info)
    with pytest.raises(GuerdonError, match="has trained nothing yet"):
        find_source("last", toys / "runs")
    for step in (1, 2):
        run.log("train-iteration-2", step, {"loss": 2.0 / step, "grad_norm": 1.0})
    run.add_tasks("eval", [Task(str(i), f"{i} + {i}?", str(2 * i)) for i in range(40)])
    for name in ("iteration-1", "iteration-2"):
        (run.folder / "checkpoints" / name).mkdir()
        (run.folder / "checkpoints" / name / "adapter_config.json").write_text("{}")
        run.finish_stage(f"train-{name}", {"rows": 3})
    run.close()

    source = find_source("last", toys / "runs")
    assert source.adapter == (run.folder / "checkpoints" / "iteration-2").resolve()
    assert (source.model, source.short_name) == (str((toys / "base").resolve()), "sums")
    assert [p[-1]["content"] for p in source.prompts[len(PROMPTS) :]] == ["0 + 0?", "10 + 10?", "20 + 20?", "30 + 30?"]

    found = invoke("last", "--format", "toy_exports:copy", "--output", "out")
    card = Path(found["output"], "README.md").read_text()
    for text in (
        "- data: rows.jsonl",
        "- rewards: numeric, xml_format, mine.py:mine",
        "http://host/",
        "2.000 to 1.000 at step 2",
        "- trainer: sft",
        "epochs: 2",
        "torch 8.8",
    ):
        assert text in card
    assert "${URL}" in card
    assert not any(secret in card for secret in ("sk-secret", "me:pw", "/home/someone", str(toys)))


def test_a_folder_is_an_adapter_or_a_model(toys: Path) -> None:
    adapter = toys / "adapter"
    adapter.mkdir()
    with pytest.raises(GuerdonError, match="no run and no model"):
        find_source("adapter", toys)
    cached = "/home/someone/.cache/huggingface/hub/models--owner--name/snapshots/0123456789abcdef"
    for base, model in (("owner/name", "owner/name"), (str(toys / "base"), str(toys / "base")), (cached, "owner/name")):
        (adapter / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": base}))
        assert (find_source("adapter", toys).model, find_source("adapter", toys).adapter) == (model, adapter)
    (adapter / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "/gone/away"}))
    with pytest.raises(ExportError, match=r"for the model '/gone/away', and there is no such folder"):
        find_source("adapter", toys)
    with pytest.raises(GuerdonError, match="there are no runs"):
        find_source("nowhere", toys / "runs")


# -- the hub -----------------------------------------------------------------------------------------------------------


class FakeHub(BaseHTTPRequestHandler):
    """Takes every file as a small one, so that its content comes with the commit."""

    files: dict[str, bytes] = {}  # noqa: RUF012
    asked: list[tuple[str, Any]] = []  # noqa: RUF012

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        answer: Any = {}
        if self.path == "/api/repos/create":
            self.asked.append((self.headers["Authorization"], json.loads(body)))
            answer = {"url": f"http://{self.headers['Host']}/user/name", "name": "user/name"}
        elif self.path.endswith("/preupload/main"):
            files = json.loads(body)["files"]
            answer = {"files": [{"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in files]}
        elif self.path.endswith("/commit/main"):
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    self.files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            url = f"http://{self.headers['Host']}/user/name"
            answer = {"commitUrl": f"{url}/commit/1", "commitOid": "1", "success": True, "pullRequestUrl": None}
        self._answer(answer)

    def do_GET(self) -> None:
        self._answer({"id": "user/name", "sha": "0", "siblings": []})

    def _answer(self, what: Any) -> None:
        data = json.dumps(what).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[ThreadingHTTPServer]:
    pytest.importorskip("huggingface_hub")
    server = ThreadingHTTPServer(("127.0.0.1", 0), FakeHub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("HF_TOKEN", "hf_token")
    yield server
    server.shutdown()
    server.server_close()


def test_a_push_makes_the_repository_and_uploads_the_folder(toys: Path, hub: ThreadingHTTPServer) -> None:
    found = invoke("base", "--format", "toy_exports:copy", "--push", "user/name", "--private")
    assert found["pushed"].endswith("/user/name")
    assert FakeHub.asked[-1][0] == "Bearer hf_token"
    assert FakeHub.asked[-1][1]["visibility"] == "private"
    assert FakeHub.files["model.txt"] == b"1"
    assert b"library_name: toys" in FakeHub.files["README.md"]


def test_a_hub_that_is_not_there_costs_no_file(toys: Path, hub: ThreadingHTTPServer, monkeypatch: Any) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(ExportError, match=r"(?s)pushing to user/name failed.*kept; push them again with: hf upload"):
        push(toys / "base", "user/name", private=False)
    with pytest.raises(ExportError, match="written user/name"):
        check_hub("no-owner")
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    with pytest.raises(ExportError, match="set HF_TOKEN"):
        invoke("base", "--push", "user/name")
    assert not (toys / "exports").exists()


# -- the formats, on a random model ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Llama of two thin layers with grouped heads, and a random adapter on it."""
    torch = pytest.importorskip("torch")
    peft = pytest.importorskip("peft")
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    letters = {letter: i for i, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    bare = Tokenizer(models.BPE(vocab={**letters, "an": 256}, merges=[("a", "n")], byte_fallback=True))
    bare.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bare.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bare, eos_token="<|im_end|>", pad_token="<|im_end|>")
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>"]})
    tokenizer.chat_template = TEMPLATE
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=264, hidden_size=64, intermediate_size=256, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, initializer_range=0.1, rope_theta=5000.0, bos_token_id=None, eos_token_id=257,
        pad_token_id=257,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("export")
    model = LlamaForCausalLM(config)
    model.save_pretrained(folder / "base")
    tokenizer.save_pretrained(folder / "base")
    lora = peft.LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", init_lora_weights=False)
    peft.get_peft_model(model, lora).save_pretrained(folder / "adapter")
    settings = json.loads((folder / "adapter" / "adapter_config.json").read_text())
    (folder / "adapter" / "adapter_config.json").write_text(
        json.dumps({**settings, "base_model_name_or_path": str(folder / "base")})
    )
    return folder


def job(tiny: Path, output: Path, adapter: str | None = "adapter") -> ExportJob:
    output.mkdir(parents=True, exist_ok=True)
    return ExportJob(str(tiny / "base"), tiny / adapter if adapter else None, output, "tiny", ASKED)


def test_the_adapter_is_exact(tiny: Path, tmp_path: Path) -> None:
    from guerdon_trainers.export import check
    from guerdon_trainers.export.lora import lora

    one = job(tiny, tmp_path)
    lora(one)
    names = {p.name for p in tmp_path.iterdir()}
    assert {"adapter_config.json", "adapter_model.safetensors", "tokenizer.json", "chat_template.jinja"} <= names
    (row,) = check.lora(one, {})
    assert (row["ok"], row["answers"], row["tokens"]) == (True, len(ASKED), 1.0)
    lora(replace(one, hub="owner/name"))
    assert base_of(tmp_path) == "owner/name"  # and not where it lies on this machine


def test_the_merged_model_is_the_trained_one_and_the_base_is_not(tiny: Path, tmp_path: Path) -> None:
    from guerdon_trainers.export import check
    from guerdon_trainers.export.merged import merged_16bit

    one = job(tiny, tmp_path / "merged")
    merged_16bit(one)
    assert json.loads((one.output / "config.json").read_text())["dtype"] == "bfloat16"
    assert (one.output / "generation_config.json").is_file()
    (row,) = check.merged_16bit(one, {})
    assert row["ok"], row["says"]

    base = job(tiny, tmp_path / "base", adapter=None)
    merged_16bit(base)  # as an adapter that was lost on the way
    (row,) = check.merged_16bit(job(tiny, tmp_path / "base"), {})
    assert not row["ok"]
    assert "the bounds are" in row["says"]


def test_what_is_merged_ends_where_the_training_did(tiny: Path, tmp_path: Path) -> None:
    """Training can make another token the end of a turn than the base has."""
    from transformers import AutoTokenizer

    from guerdon_trainers.export import check
    from guerdon_trainers.export.merged import merged_16bit

    shutil.copytree(tiny / "adapter", tmp_path / "adapter")
    tokenizer = AutoTokenizer.from_pretrained(tiny / "base")
    tokenizer.eos_token = "<|im_start|>"
    tokenizer.save_pretrained(tmp_path / "adapter")
    one = replace(job(tiny, tmp_path / "merged"), adapter=tmp_path / "adapter")
    merged_16bit(one)
    said = [json.loads((one.output / f"{name}.json").read_text()) for name in ("config", "generation_config")]
    assert [each["eos_token_id"] for each in said] == [258, [258, 257]]
    (row,) = check.merged_16bit(one, {})
    assert row["ok"], row["says"]


def test_four_bits_without_their_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from guerdon_trainers.export.merged import merged_4bit

    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(ExportError, match=r"needs bitsandbytes, .*pip install 'guerdon\[quantize\]'"):
        merged_4bit(ExportJob("nobody/nothing", None, tmp_path, "x"))
    assert not [*tmp_path.iterdir()]


def test_gguf_files_are_what_their_reader_takes_for_the_trained_model(tiny: Path, tmp_path: Path) -> None:
    from gguf import GGUFReader

    from guerdon_trainers.export import check
    from guerdon_trainers.export.gguf import gguf
    from guerdon_trainers.export.gguf_mix import library

    one = job(tiny, tmp_path)
    mixtures = ["q4_k_m", "q6_k"] if library() else []
    gguf(one, quantize=["f32", "not_quantized", "Q8_0", *mixtures])
    rows = {row["file"]: row for row in check.gguf(one, {})}
    assert sorted(rows) == sorted(f"tiny-{n}.gguf" for n in ("F32", "F16", "Q8_0", *map(str.upper, mixtures)))
    assert not [row["says"] for row in rows.values() if not row["ok"]]
    assert rows["tiny-F32.gguf"]["tokens"] == 1.0

    reader = GGUFReader(tmp_path / "tiny-Q8_0.gguf")
    said = {name: field.contents() for name, field in reader.fields.items() if field.types}
    # `byte_fallback`, which tokenizers read from a GGUF have for no reason, makes it no SentencePiece
    assert (said["tokenizer.ggml.model"], said["tokenizer.ggml.pre"]) == ("gpt2", "gpt-2")
    assert said["tokenizer.ggml.merges"] == ["a n"]
    padding = [f"[PAD{i}]" for i in range(259, 264)]
    assert said["tokenizer.ggml.tokens"][256:] == ["an", "<|im_end|>", "<|im_start|>", *padding]
    assert said["tokenizer.ggml.token_type"][255:] == [1, 1, 3, 3, 5, 5, 5, 5, 5]
    assert (said["tokenizer.ggml.eos_token_id"], said["tokenizer.ggml.add_bos_token"]) == (257, False)
    assert "{% if true %}{{ m.content }}{%- endif -%}" in said["tokenizer.chat_template"]
    types = {t.name: t.tensor_type.name for t in reader.tensors}
    assert (types["blk.0.attn_q.weight"], types["blk.0.attn_norm.weight"]) == ("Q8_0", "F32")


def test_a_gguf_needs_merges(tmp_path: Path) -> None:
    pytest.importorskip("gguf")
    from tiny import byte_tokenizer, save_model

    from guerdon_trainers.export.gguf import gguf

    model = save_model(tmp_path / "model", byte_tokenizer())
    with pytest.raises(ExportError, match="a BPE tokenizer without merges"):
        gguf(ExportJob(model, None, tmp_path, "x"), quantize=["f16"])


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("q9_0", "there is no 'q9_0'. Did you mean 'q8_0'"),
        ("iq2_xxs", "needs an importance matrix"),
        ("q2_k", "only llama-quantize of llama.cpp does it"),
        ("q4_k_m", r"needs ggml's library: pip install 'guerdon\[gguf\]'"),
    ],
)
def test_a_quantisation_that_cannot_be_had(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, says: str
) -> None:
    from guerdon_trainers.export import gguf as module

    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(module, "library", lambda: None)
    with pytest.raises(ExportError, match=says):
        module.gguf(job(tiny, tmp_path), quantize=[name])


def test_the_mixture_is_llama_cpps() -> None:
    """Of SmolLM2-135M, 30 layers with rows of 576, no whole number of 256; and of models with long rows."""
    pytest.importorskip("numpy")
    from guerdon_trainers.export.gguf_mix import mixed

    smol = {n: mixed(n, 1536 if "down" in n else 576, "q4_k_m", 30, True) for n in names(30)}
    assert smol["token_embd.weight"] == "Q8_0"
    assert [i for i in range(30) if smol[f"blk.{i}.ffn_down.weight"] == "Q6_K"] == FAVOURED
    assert [i for i in range(30) if smol[f"blk.{i}.attn_v.weight"] == "Q8_0"] == FAVOURED
    assert {smol[f"blk.{i}.attn_q.weight"] for i in range(30)} == {"Q5_0"}
    assert mixed("output.weight", 4096, "q4_k_m", 32, False) == "Q6_K"
    assert mixed("token_embd.weight", 4096, "q4_k_m", 32, False) == "Q4_K"
    assert mixed("blk.1.ffn_down.weight", 4096, "q4_k_s", 32, False) == "Q5_K"


FAVOURED = [0, 1, 2, 5, 8, 11, 14, 17, 20, 23, 26, 27, 28, 29]


def names(layers: int) -> list[str]:
    kinds = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")
    return ["token_embd.weight", *(f"blk.{i}.{kind}.weight" for i in range(layers) for kind in kinds)]


def test_texts_are_split_as_llama_cpp_names_it() -> None:
    pytest.importorskip("gguf")
    from transformers.models.qwen2.tokenization_qwen2 import PRETOKENIZE_REGEX

    from guerdon_trainers.export.gguf_tokens import _split_name

    def spec(*parts: dict[str, Any]) -> Any:
        return {"pre_tokenizer": {"type": "Sequence", "pretokenizers": list(parts)}}

    plain = {"type": "ByteLevel", "use_regex": True}
    bare = {"type": "ByteLevel", "use_regex": False}
    digits = {"type": "Digits", "individual_digits": True}
    qwen = {"type": "Split", "pattern": {"Regex": PRETOKENIZE_REGEX}}
    llama = {"type": "Split", "pattern": {"Regex": PRETOKENIZE_REGEX.replace(r"\p{N}| ", r"\p{N}{1,3}| ")}}
    found = [_split_name(spec(*parts)) for parts in ([digits, plain], [plain], [qwen, bare], [llama, bare])]
    assert found == ["smollm", "gpt-2", "qwen2", "llama-bpe"]
    with pytest.raises(ExportError, match=r"splits a text \(Split, Digits\)"):
        _split_name(spec(qwen, digits))


def test_sentencepiece_tokens_get_scores_in_the_order_of_the_merges() -> None:
    pytest.importorskip("gguf")
    from guerdon_trainers.export.gguf_tokens import _scores

    scores = _scores(["<unk>", "▁", "t", "h", "▁t", "th", "▁th"], [["▁", "t"], ["t", "h"], ["▁t", "h"]])
    assert scores[4] > scores[5] > scores[6] > scores[0]
