"""A package of a third party, as its user meets it: built, installed beside guerdon, used, removed.

Everything is real: wheels built by pip, an empty environment, the installed command, an HTTP server.
"""

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
ANSWER = "word " * 15

pytestmark = pytest.mark.timeout(600)


class Environment:
    """A virtual environment of its own and a folder to work in."""

    def __init__(self, folder: Path) -> None:
        self.bin = folder / "venv" / "bin"
        self.home = folder / "home"
        self.home.mkdir()
        subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)

    def run(
        self, *command: str | Path, cwd: Path | None = None, check: bool = True
    ) -> "subprocess.CompletedProcess[str]":
        env = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "GUERDON_", "VIRTUAL_ENV"))}
        env |= {"COLUMNS": "120", "GUERDON_CACHE": str(self.home / "cache"), "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
        done = subprocess.run(
            [self.bin / command[0], *command[1:]],
            cwd=cwd or self.home,
            env=env,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0 or not check, f"{command}\n{done.stdout}{done.stderr}"
        return done


@pytest.fixture(scope="module")
def user(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """guerdon's wheel and guerdon-brevity's wheel in an empty environment, with the base dependencies only."""
    folder = tmp_path_factory.mktemp("user")
    user = Environment(folder)
    build = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", folder / "wheels"]
    subprocess.run([*build, ROOT, ROOT / "plugins" / "guerdon-brevity"], check=True)
    wheels = sorted((folder / "wheels").glob("*.whl"))
    assert [w.name for w in wheels] == ["guerdon-0.1.0-py3-none-any.whl", "guerdon_brevity-0.1.0-py3-none-any.whl"]
    user.run("pip", "install", "--no-compile", *wheels, "pytest")
    return user


class Model(BaseHTTPRequestHandler):
    """Answers every chat completion with fifteen words, and keeps what it was asked."""

    asked: list[dict[str, Any]]

    def do_GET(self) -> None:
        self.reply({"object": "list", "data": [{"id": "wordy", "object": "model"}]})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.asked.append(body)
        message = {"role": "assistant", "content": ANSWER}
        usage = {"prompt_tokens": 9, "completion_tokens": 15, "total_tokens": 24}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        self.reply({"id": "1", "object": "chat.completion", "model": "wordy", "choices": [choice], "usage": usage})

    def reply(self, data: Any) -> None:
        text = json.dumps(data).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    asked: list[dict[str, Any]] = []
    handler = type("Handler", (Model,), {"asked": asked})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/v1", asked
        server.shutdown()


def plugins(user: Environment) -> list[tuple[str, str, str, str]]:
    rows = json.loads(user.run("guerdon", "plugins", "list", "--json").stdout)
    return [(r["kind"], r["name"], r["package"], r["version"]) for r in rows if r["package"] != "guerdon"]


def test_brevity_is_installed_used_and_removed(user: Environment, server: tuple[str, list[dict[str, Any]]]) -> None:
    url, asked = server
    assert plugins(user) == [
        ("agent", "brief", "guerdon-brevity", "0.1.0"),
        ("reward", "brevity", "guerdon-brevity", "0.1.0"),
    ]
    assert re.search(r"^max_words +int +100 ", user.run("guerdon", "plugins", "show", "brevity").stdout, re.M)

    tasks = [{"prompt": f"{n}+{n}?", "answer": str(2 * n)} for n in range(3)]
    (user.home / "tasks.jsonl").write_text("".join(json.dumps(t) + "\n" for t in tasks))
    (user.home / "polite.py").write_text("def polite(completion): return 0.5, 'so so'\n")
    (user.home / "recipe.yaml").write_text(f"""
model: wordy
backend: {{openai: {{base_url: "{url}"}}}}
tasks: {{path: tasks.jsonl}}
agent: {{brief: {{words: 7}}}}
rewards:
  - brevity: {{max_words: 10, weight: 0.5}}
  - ./polite.py:polite
loop: {{group_size: 2}}
""")
    assert "brevity (guerdon-brevity 0.1.0)" in user.run("guerdon", "check", "recipe.yaml").stdout
    assert asked == []
    user.run("guerdon", "rollout", "recipe.yaml")
    assert len(asked) == 6
    assert asked[0]["messages"][0] == {"role": "system", "content": "Answer in at most 7 words."}

    summary = json.loads(user.run("guerdon", "show", "last", "--json").stdout)
    (figures,) = summary["rollouts"].values()
    # fifteen words of ten: 0.5, of weight 0.5; and the 0.5 of polite
    assert (figures["rollouts"], figures["reward"]) == (6, 0.75)
    one = json.loads(user.run("guerdon", "show", "last", "--best", "--json").stdout)
    assert (one["agent"], one["completion"], one["reward"]) == ("brief", ANSWER, 0.75)
    assert one["scores"]["brevity"].items() >= {"value": 0.5, "weight": 0.5, "error": None}.items()
    assert one["scores"]["polite"].items() >= {"value": 0.5, "weight": 1.0, "reason": "so so"}.items()

    assert " passed" in user.run("pytest", "-p", "no:cacheprovider", cwd=ROOT / "plugins" / "guerdon-brevity").stdout

    user.run("pip", "uninstall", "-y", "guerdon-brevity")
    assert plugins(user) == []
    for command in ("check", "rollout"):
        done = user.run("guerdon", command, "recipe.yaml", check=False)
        assert done.returncode == 1
        assert "there is no agent 'brief'" in done.stderr
        assert "Traceback" not in done.stderr
    done = user.run("guerdon", "check", "recipe.yaml", "agent=chat", check=False)
    assert (done.returncode, "there is no reward 'brevity'" in done.stderr) == (1, True), done.stderr


@pytest.mark.parametrize("kind", ["reward", "agent"])
def test_a_package_of_ones_own_works_at_once(user: Environment, kind: str) -> None:
    name = f"new-{kind}"
    user.run("guerdon", "plugins", "new", kind, name)
    folder = user.home / f"guerdon-{name}"
    user.run("pip", "install", "--no-deps", "-e", ".", cwd=folder)
    assert " passed" in user.run("pytest", cwd=folder).stdout
    shown = user.run("guerdon", "plugins", "show", name).stdout
    setting = "word   str    'please'" if kind == "reward" else "instruction   str    'Be brief.'"
    assert setting in shown
    assert f"from guerdon-{name} 0.1.0" in shown
