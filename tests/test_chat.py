"""`guerdon chat`: what is talked with, how it is sampled, one prompt, and a conversation at a terminal."""

import io
import json
import os
import pty
import select
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from subprocess import Popen
from typing import Any

import pytest
from chat_server import ChatServer, Reply, completion, serve
from command import guerdon, write_recipe

from guerdon.checkpoints import kept_checkpoint
from guerdon.conversation import knows_thinking
from guerdon.store import Run

TOY = '''
import asyncio, json
from contextlib import asynccontextmanager

class Toy:
    """Says what it is asked, word by word; the words `who`, `slow` and `all` are answered otherwise."""
    def __init__(self, model):
        self.model, self.adapter = model, None
    async def load_adapter(self, path):
        self.adapter = path.name
    async def stream(self, body, task):
        asked = body["messages"][-1]["content"]
        words = {"who": f"{self.model} {self.adapter}", "all": json.dumps(body)}.get(asked, asked).split(" ")
        for i, word in enumerate(words if asked != "slow" else map(str, range(1000))):
            await asyncio.sleep(0.05 if asked == "slow" else 0)
            yield {"choices": [{"index": 0, "delta": {"content": word + " "}, "finish_reason": None}]}
        yield {"choices": [{"index": 0, "delta": {}, "finish_reason": "length" if asked == "long" else "stop"}]}
        yield {"choices": [], "usage": {}}

@asynccontextmanager
async def toy(model):
    yield Toy(model)
'''


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ChatServer]:
    with serve(lambda body: f"You said {body['messages'][-1]['content']}.") as running:
        monkeypatch.setenv("OPENAI_BASE_URL", running.base_url)
        monkeypatch.delenv("OPENAI_API_KEY", raising=False)
        yield running


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """A run with the toy backend that has trained twice, and found no rows a third time."""
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    (tmp_path / "toy.py").write_text(TOY)
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "config.json").write_text("{}")
    recipe = write_recipe(tmp_path, "", model="./base", backend="./toy.py:toy")
    made = Run.create(tmp_path / "runs", "toy", recipe.read_text(), {"folder": str(tmp_path), "versions": {}})
    for name, rows in (("iteration-2", 4), ("warmup", 3), ("iteration-10", 2), ("iteration-11", 0)):
        checkpoint(made, name, "adapter_config.json", rows)
    yield made
    made.close()


def checkpoint(run: Run, name: str, file: str, rows: int) -> None:
    folder = run.folder / "checkpoints" / name
    folder.mkdir()
    (folder / file).write_text("{}")
    run.finish_stage(f"train-{name}", {"rows": rows})


def test_the_newest_checkpoint_is_the_last_that_had_rows(run: Run) -> None:
    assert kept_checkpoint(run) == run.folder / "checkpoints" / "iteration-10"
    checkpoint(run, "grpo", "config.json", 8)
    assert kept_checkpoint(run) == run.folder / "checkpoints" / "grpo"


def test_a_run_answers_with_its_newest_checkpoint_and_its_base_on_request(run: Run, tmp_path: Path) -> None:
    model = tmp_path / "base"
    said = guerdon(tmp_path, "chat", "last", "who")
    assert said.out == f"{model} iteration-10 \n"
    assert f"./base + {run.id}, iteration-10: temperature 0.7, top_p 0.8, top_k 20, at most 256 tokens" in said.err
    assert guerdon(tmp_path, "chat", "toy", "who", "--base").out == f"{model} None \n"
    whole = run.folder / "checkpoints" / "grpo"
    checkpoint(run, "grpo", "config.json", 8)
    assert guerdon(tmp_path, "chat", str(run.folder), "who").out == f"{whole} None \n"


def test_folders_are_models_or_adapters(run: Run, tmp_path: Path) -> None:
    adapter = tmp_path / "tuned"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": str(tmp_path / "base")}))
    toy = ("--backend", "./toy.py:toy")
    assert guerdon(tmp_path, "chat", "base", "who", *toy).out == f"{tmp_path / 'base'} None \n"
    assert guerdon(tmp_path, "chat", "tuned", "who", *toy).out == f"{tmp_path / 'base'} tuned \n"
    assert guerdon(tmp_path, "chat", "./tuned", "who", "--base", *toy).out == f"{tmp_path / 'base'} None \n"
    assert guerdon(tmp_path, "chat", "owner/name", "who", *toy).out == "owner/name None \n"


def test_what_is_none_of_these_is_an_error_with_a_hint(run: Run, tmp_path: Path) -> None:
    error = guerdon(tmp_path, "chat", "smollm2", "Hi", code=1).err
    assert "'smollm2' is no run in runs/, no folder, no hub id (owner/name), and no model" in error
    assert "Did you mean 'smollm2-135m'?" in error
    error = guerdon(tmp_path, "chat", "last", "Hi", "--backend", "tranformers", code=1).err
    assert "Did you mean 'transformers'?" in error


def test_thinking_has_its_own_defaults_and_is_switched_off_where_there_is_a_switch(run: Run, tmp_path: Path) -> None:
    def body(*options: str) -> dict[str, Any]:
        said: dict[str, Any] = json.loads(guerdon(tmp_path, "chat", "last", "all", *options).out)
        del said["messages"]
        return said

    plain = {"temperature": 0.7, "top_p": 0.8, "top_k": 20, "max_tokens": 256}
    deep = {"temperature": 0.6, "top_p": 0.95, "top_k": 20, "max_tokens": 1024}
    thinks = {"chat_template_kwargs": {"enable_thinking": True}}
    silent = {"chat_template_kwargs": {"enable_thinking": False}}
    assert body() == plain
    assert body("--no-thinking") == plain | silent
    assert body("--thinking") == deep | thinks
    (tmp_path / "base" / "chat_template.jinja").write_text("{% if enable_thinking is defined %}")
    assert knows_thinking(str(tmp_path / "base"))
    assert body() == plain | silent
    assert body("--thinking", "--temperature", "0", "--max-tokens", "9") == deep | thinks | {
        "temperature": 0.0,
        "max_tokens": 9,
    }


def test_a_remote_model_is_asked_in_openais_words_with_the_system_message(server: ChatServer, tmp_path: Path) -> None:
    said = guerdon(tmp_path, "chat", "gpt-x", "Hi", "--system", "Be brief.")
    assert said.out == "You said Hi.\n"
    assert server.requests == [
        {
            "model": "gpt-x",
            "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}],
            "temperature": 0.7,
            "top_p": 0.8,
            "max_tokens": 256,
            "stream": True,
        }
    ]


def test_json_is_the_whole_answer(server: ChatServer, tmp_path: Path) -> None:
    server.answer = lambda body: completion("4")
    said = guerdon(tmp_path, "chat", "gpt-x", "2+2?", "--json")
    assert said.err == ""
    assert said.json["answer"] == "4" and said.json["usage"]["completion_tokens"] == 7
    assert said.json["sampling"] == {"temperature": 0.7, "top_p": 0.8, "max_tokens": 256}


def test_a_stream_that_breaks_is_an_error(server: ChatServer, tmp_path: Path) -> None:
    good = 'data: {"choices": [{"index": 0, "delta": {"content": "a"}}]}\n\n'
    stream = {"content-type": "text/event-stream"}
    for body, words in (
        (good + 'data: {"error": {"message": "out of memory"}}\n\n', "out of memory"),
        (good + "data: {oops\n\n", "not with a chat completion"),
    ):
        server.answer = lambda _, body=body: Reply(body=body, headers=stream)
        said = guerdon(tmp_path, "chat", "gpt-x", "Hi", code=1)
        assert words in said.err and said.out == "a"
    server.answer = lambda _: Reply(401, '{"error": {"message": "no"}}')
    assert "answered 401" in guerdon(tmp_path, "chat", "gpt-x", "Hi", code=1).err


def test_stdin_is_the_prompt_where_there_is_none(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("long\n"))
    said = guerdon(tmp_path, "chat", "last")
    assert said.out == "long \n"
    monkeypatch.setattr("sys.stdin", io.StringIO(" \n"))
    assert "the prompt is empty" in guerdon(tmp_path, "chat", "last", code=2).err
    assert "cut off" in guerdon(tmp_path, "chat", "last", "long").err


class Terminal:
    """A conversation as a person has it, in a terminal of its own."""

    # stdin becomes the controlling terminal, whose Ctrl-C is a signal
    START = (
        "import fcntl, runpy, signal, sys, termios\n"
        "fcntl.ioctl(0, termios.TIOCSCTTY, 0)\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "runpy.run_module('guerdon', run_name='__main__', alter_sys=True)\n"
    )

    def __init__(self, folder: Path, *command: str) -> None:
        self.screen, theirs = pty.openpty()
        self.process = Popen(
            [sys.executable, "-c", self.START, *command],
            cwd=folder,
            env={**os.environ, "TERM": "dumb"},
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )
        os.close(theirs)

    def says(self, words: str) -> str:
        """What is printed until these words."""
        seen, deadline = "", time.monotonic() + 60
        while words not in seen:
            assert time.monotonic() < deadline, seen
            if select.select([self.screen], [], [], 0.1)[0]:
                seen += os.read(self.screen, 1).decode("latin-1")
        return seen

    def type(self, text: str) -> None:
        self.says("\n> ")
        os.write(self.screen, text.encode())

    def __enter__(self) -> "Terminal":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.screen)


def test_a_conversation_at_a_terminal(run: Run, tmp_path: Path) -> None:
    with Terminal(tmp_path, "chat", "last") as terminal:
        terminal.type("hello there\n")
        terminal.says("hello there \r\n")
        terminal.type("slow\n")
        terminal.says("3 4 5 ")
        os.write(terminal.screen, b"\x03")  # Ctrl-C
        terminal.says(" ...")
        terminal.type("all\n")
        assert '"content": "slow"}, {"role": "assistant", "content": "0 1 2 3 4 5' in terminal.says("]}")
        terminal.type("/reset\n")
        terminal.type("all\n")
        assert '"messages": [{"role": "user", "content": "all"}]' in terminal.says("]}")
        terminal.type("/help\n")
        terminal.says("/quit or Ctrl-D ends")
        terminal.type("\x04")  # Ctrl-D
        assert terminal.process.wait(20) == 0
