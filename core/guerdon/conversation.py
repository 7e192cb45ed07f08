"""Talk with a model: find what is meant, its sampling, and a conversation whose answers come in pieces."""

import os
from collections.abc import AsyncIterator
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from guerdon.checkpoints import kept_checkpoint
from guerdon.errors import ComponentError, StoreError, near_miss
from guerdon.export_source import base_of, no_model, to_load
from guerdon.launch import load_recipe
from guerdon.plugins import Plugins
from guerdon.policy import Endpoint
from guerdon.registry import Registry, load, require_extra
from guerdon.resolve import Bound, model_path, resolve
from guerdon.served import is_adapter
from guerdon.store import Run, elsewhere, find_run
from guerdon.task import Message, Task

PLAIN = {"temperature": 0.7, "top_p": 0.8, "top_k": 20, "max_tokens": 256}
THINKING = {"temperature": 0.6, "top_p": 0.95, "top_k": 20, "max_tokens": 1024}
"""The Unsloth Qwen3-8B tutorial's, for chat and for reasoning."""


@dataclass(frozen=True)
class Subject:
    """What to talk with: a model, perhaps an adapter on it, and the backend that serves them. `name` is for people."""

    name: str
    model: str
    adapter: Path | None
    backend: Bound

    @property
    def remote(self) -> bool:
        """Whether a server elsewhere answers, which may know no more than OpenAI's own fields."""
        chosen = self.backend.component.name
        url = bool(os.environ.get("OPENAI_BASE_URL")) and not Path(self.model).is_dir()
        return chosen == "openai" or (chosen == "auto" and url)


def find_subject(target: str, runs: Path, *, base: bool = False, backend: str = "") -> Subject:
    """A registered model, a folder with a model or an adapter, a run (the checkpoint that it keeps), or a hub id.

    `base` leaves the adapter, or the run's training, aside. `backend` is taken instead of the run's, or of `auto`.

    Raises:
        ComponentError: it is none of these.
        StoreError: several runs are called so.
    """
    registry = Registry(Plugins(), Path.cwd())
    names = [c.name for c in registry.of_kind("models")]
    folder = Path(target).expanduser()
    chosen = _backend(registry, backend or "auto")
    if (folder / "adapter_config.json").is_file():
        model = to_load(registry, base_of(folder))
        adapter = None if base else folder.resolve()
        return Subject(f"{Path(model).name}{'' if base else f' + {folder.name}'}", model, adapter, chosen)
    whole = (folder / "config.json").is_file()
    if not whole and target not in names and ("/" not in target or folder.is_dir()):
        try:
            return _run(find_run(runs, target), base, _backend(registry, backend) if backend else None)
        except StoreError as error:
            remote = Subject(target, target, None, chosen)
            if remote.remote:
                return remote
            if "fits several" in str(error):
                raise
            if target and folder.is_dir():
                raise no_model(folder) from None
            raise ComponentError(
                f"{target!r} is no run in {runs}/, no folder, no hub id (owner/name), and no model that a plugin "
                f"knows.{near_miss(target, names)}{elsewhere(runs)}"
            ) from None
    name = folder.resolve().name if whole else target
    return Subject(name, model_path(registry, Path.cwd(), target), None, chosen)


def _run(folder: Path, base: bool, backend: Bound | None) -> Subject:
    plan = resolve(*load_recipe(str(folder / "recipe.yaml"), ()))
    run = Run(folder)
    try:
        found = None if base else kept_checkpoint(run) or plan.adapter
    finally:
        run.close()
    chosen = backend or plan.backend
    if found and not backend and not getattr(chosen.function, "serves_adapters", True):
        chosen = _backend(plan.registry, "transformers")  # the run's cannot answer with what the run has trained
    if found and not is_adapter(found):
        return Subject(f"{run.id}, {found.name}", str(found.resolve()), None, chosen)
    name = f"{plan.model} + {run.id}, {found.name}" if found else f"{plan.model}, as {run.id} found it"
    return Subject(name, plan.model_path(), found.resolve() if found else None, chosen)


def _backend(registry: Registry, name: str) -> Bound:
    component = registry.find("backends", name)
    require_extra(component)
    return Bound(component, load(component), {})


def settings(subject: Subject, thinking: bool | None, given: dict[str, Any]) -> dict[str, Any]:
    """The fields of each request: what is `given`, the defaults, and whether the model is to think before it answers.

    Without a word on thinking, a model whose template has the switch does not think, and others are not told.
    """
    defaults = THINKING if thinking else PLAIN
    if subject.remote:
        defaults = {name: value for name, value in defaults.items() if name != "top_k"}
    if thinking is None and knows_thinking(subject.model):
        thinking = False
    told = {} if thinking is None else {"chat_template_kwargs": {"enable_thinking": thinking}}
    return {**defaults, **{name: value for name, value in given.items() if value is not None}, **told}


def knows_thinking(model: str) -> bool:
    """Whether the chat template of a model (a folder, or a hub id in the local cache) has the switch."""
    for name in ("chat_template.jinja", "chat_template.json", "tokenizer_config.json"):
        file: Any = Path(model) / name
        if not Path(model).is_dir():
            with suppress(ImportError, ValueError):  # a hub id has one slash
                from huggingface_hub import try_to_load_from_cache

                file = try_to_load_from_cache(model, name)
        if isinstance(file, str | Path) and Path(file).is_file() and b"enable_thinking" in Path(file).read_bytes():
            return True
    return False


@dataclass
class Conversation:
    """Messages with an endpoint. An answer that is stopped half-way stays as far as it came."""

    endpoint: Endpoint
    body: dict[str, Any]
    system: str = ""
    messages: list[Message] = field(default_factory=list)
    finish: str = ""

    def reset(self) -> None:
        self.messages = []

    async def ask(self, text: str) -> AsyncIterator[str]:
        """The answer in pieces. Raises BackendError; the question is then as if not asked."""
        asked = [*self.messages, {"role": "user", "content": text}]
        said = ""
        try:
            async with aclosing(_pieces(self.endpoint, self._request(asked), Task("chat", text))) as chunks:
                async for chunk in chunks:
                    for choice in chunk["choices"][:1]:
                        self.finish = choice.get("finish_reason") or ""
                        if piece := (choice.get("delta") or {}).get("content"):
                            said += piece
                            yield piece
        finally:
            if said:
                self.messages = [*asked, {"role": "assistant", "content": said}]

    async def answer(self, text: str) -> dict[str, Any]:
        """The whole response's body, for one question."""
        return await self.endpoint.complete(self._request([{"role": "user", "content": text}]), Task("chat", text))

    def _request(self, messages: list[Message]) -> dict[str, Any]:
        first = [{"role": "system", "content": self.system}] if self.system else []
        return {**self.body, "messages": first + messages}


async def _pieces(endpoint: Endpoint, body: dict[str, Any], task: Task) -> Any:
    """The chunks of a stream; of an endpoint that does not stream, one."""
    if stream := getattr(endpoint, "stream", None):
        async with aclosing(stream(body, task)) as chunks:
            async for chunk in chunks:
                yield chunk
        return
    whole = await endpoint.complete(body, task)
    yield {**whole, "choices": [{**choice, "delta": choice["message"]} for choice in whole["choices"]]}
