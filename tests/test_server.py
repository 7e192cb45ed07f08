"""The embedded server, for real: SmolLM2-135M on the CPU, started once."""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

pytest.importorskip("torch")

from guerdon.errors import BackendError
from guerdon.streams import assembled
from guerdon.task import Task
from guerdon_backends.chat import Prompts, clean, parse_reply
from guerdon_backends.embedded import transformers
from guerdon_backends.models import smollm2_135m

pytestmark = pytest.mark.model

TOOL = {
    "type": "function",
    "function": {
        "name": "calculate",
        "description": "Evaluate an expression.",
        "parameters": {"type": "object", "properties": {"expression": {"type": "string"}}},
    },
}
PROMPTS = [
    "Hi",
    "What is 2 + 2?",
    "Name three colours, one a line.",
    "Tell me about the sea. " * 8,
    "Count: " + ", ".join(map(str, range(60))),
]


def ask(content: str, **params: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": content}], "temperature": 0, "max_tokens": 8, **params}


@pytest.fixture(scope="session")
def folder() -> str:
    return smollm2_135m()


@pytest.fixture(scope="session")
def model(folder: str) -> Any:
    """The same model in this process, by transformers alone."""
    import torch
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(1)
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)


@pytest.fixture(scope="session")
def server(folder: str) -> Iterator[httpx.Client]:
    command = [
        sys.executable,
        "-m",
        "guerdon_backends.server",
        "--model",
        folder,
        "--exit-with-parent",
        "--threads",
        "1",
    ]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdin is not None
        url = process.stdout.readline().strip()
        with httpx.Client(base_url=url, timeout=120) as client:
            assert client.get("/health").status_code == 200
            yield client
        process.stdin.close()
        assert process.wait(10) == 0


def chat(server: httpx.Client, body: dict[str, Any]) -> dict[str, Any]:
    reply = server.post("/v1/chat/completions", json={"return_token_ids": True, "logprobs": True, **body})
    assert reply.status_code == 200, reply.text
    result: dict[str, Any] = reply.json()
    return result


def together(server: httpx.Client, bodies: list[dict[str, Any]]) -> list[dict[str, Any]]:
    async def one(client: httpx.AsyncClient, body: dict[str, Any]) -> dict[str, Any]:
        full = {"return_token_ids": True, "logprobs": True, **body}
        result: dict[str, Any] = (await client.post("/v1/chat/completions", json=full)).json()
        return result

    async def all_of_them() -> list[dict[str, Any]]:
        async with httpx.AsyncClient(base_url=server.base_url, timeout=120) as client:
            return await asyncio.gather(*(one(client, b) for b in bodies))

    return asyncio.run(all_of_them())


def test_a_request_may_bring_a_template_and_ends(server: httpx.Client, folder: str) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    body = {"messages": [{"role": "user", "content": "Count: 1, 2, 3,"}], "temperature": 0, "max_tokens": 12}
    plain = chat(server, body)
    mine = chat(server, {**body, "chat_template": "{{ messages[0].content }}"})
    assert mine["prompt_token_ids"] == tokenizer("Count: 1, 2, 3,", add_special_tokens=False)["input_ids"]
    ids = mine["choices"][0]["token_ids"]
    assert len(ids) == 12 and plain["prompt_token_ids"] != mine["prompt_token_ids"]
    ended = chat(server, {**body, "chat_template": "{{ messages[0].content }}", "stop_token_ids": [ids[5]]})
    assert ended["choices"][0]["token_ids"] == ids[: ids.index(ids[5]) + 1]
    assert ended["choices"][0]["finish_reason"] == "stop"
    assert chat(server, body)["prompt_token_ids"] == plain["prompt_token_ids"]


def test_batched_greedy_tokens_equal_those_of_transformers_alone(server: httpx.Client, folder: str, model: Any) -> None:
    import torch
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    lengths = [8, 3, 6, 4, 7]  # rows leave the batch in another order than they came
    answers = together(server, [ask(p, max_tokens=n) for p, n in zip(PROMPTS, lengths, strict=True)])
    for prompt, length, answer in zip(PROMPTS, lengths, answers, strict=True):
        messages = [{"role": "user", "content": prompt}]
        text = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        asked = tokenizer(text, add_special_tokens=False)["input_ids"]
        assert answer["prompt_token_ids"] == asked
        choice = answer["choices"][0]
        with (
            torch.no_grad()
        ):  # each token is the likeliest after those before it, so all are what greedy decoding gives
            logits = model(torch.tensor([asked + choice["token_ids"]])).logits[0, len(asked) - 1 : -1]
        best = torch.log_softmax(logits, -1).max(-1)
        assert choice["token_ids"] == best.indices.tolist() and len(choice["token_ids"]) == length
        assert [e["logprob"] for e in choice["logprobs"]["content"]] == pytest.approx(best.values.tolist(), abs=1e-3)


def test_a_seed_gives_the_same_reply_alone_and_in_a_batch(server: httpx.Client) -> None:
    body = ask("Write a line about rain.", temperature=1.0, seed=7, n=2, max_tokens=6)
    alone = chat(server, body)
    others = [ask(p, temperature=1.0, max_tokens=4) for p in PROMPTS[:3]]
    batched = together(server, [*others, body])[-1]
    ids = [c["token_ids"] for c in alone["choices"]]
    assert [c["token_ids"] for c in batched["choices"]] == ids
    assert ids[0] != ids[1]
    assert chat(server, {**body, "seed": 8})["choices"][0]["token_ids"] != ids[0]


def test_logprobs_are_those_at_the_sampling_temperature(server: httpx.Client) -> None:
    cold = chat(server, ask("What is 2 + 2?", temperature=0.001, seed=1, max_tokens=4))
    greedy = chat(server, ask("What is 2 + 2?", max_tokens=4))
    assert cold["choices"][0]["token_ids"] == greedy["choices"][0]["token_ids"]
    assert max(abs(e["logprob"]) for e in cold["choices"][0]["logprobs"]["content"]) < 0.01
    assert min(e["logprob"] for e in greedy["choices"][0]["logprobs"]["content"]) < -0.05
    only = chat(server, ask("Write a line about rain.", temperature=1.5, top_k=1, max_tokens=4))
    assert [e["logprob"] for e in only["choices"][0]["logprobs"]["content"]] == [0.0] * 4


def test_the_end_token_is_among_the_ids_and_counted(server: httpx.Client) -> None:
    answer = chat(server, ask("What is the capital of France?", max_tokens=60))
    choice = answer["choices"][0]
    assert choice["finish_reason"] == "stop"
    assert choice["token_ids"][-1] == 2
    assert "<|im_end|>" not in choice["message"]["content"]
    assert answer["usage"]["completion_tokens"] == len(choice["token_ids"]) == len(choice["logprobs"]["content"])


def test_stop_strings_cut_the_text_and_length_ends_it(server: httpx.Client) -> None:
    full = chat(server, ask("Count from one to ten.", max_tokens=12))["choices"][0]
    assert full["finish_reason"] == "length"
    word = full["message"]["content"].split()[3]
    cut = chat(server, ask("Count from one to ten.", max_tokens=12, stop=word))["choices"][0]
    assert cut["finish_reason"] == "stop"
    assert cut["message"]["content"] == full["message"]["content"].split(word)[0]


@pytest.mark.parametrize("temperature", [0, 1.3])
def test_the_second_prompt_begins_with_the_first_and_its_reply(server: httpx.Client, temperature: float) -> None:
    first = ask("Say something odd about 17 crabs.", temperature=temperature, seed=3, max_tokens=10, tools=[TOOL])
    one = chat(server, first)
    reply = one["choices"][0]["message"]
    as_clients_write_it = {**reply, "content": [{"type": "text", "text": reply["content"]}]}
    messages = [*first["messages"], as_clients_write_it, {"role": "user", "content": "Go on."}]
    two = chat(server, {**first, "messages": messages})
    so_far = one["prompt_token_ids"] + one["choices"][0]["token_ids"]
    assert two["prompt_token_ids"][: len(so_far)] == so_far


def test_a_tool_call_by_the_model_and_what_comes_after_it(server: httpx.Client) -> None:
    """Examples in the conversation have the model, which knows no tools, copy their form."""
    said = []
    for expression, value in (("12*7", "84"), ("31+5", "36"), ("90-4", "86")):
        function = {"name": "calculate", "arguments": json.dumps({"expression": expression})}
        call = {"id": f"call_{value}", "type": "function", "function": function}
        said += [
            {"role": "user", "content": f"What is {expression}?"},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": call["id"], "content": value},
            {"role": "assistant", "content": value},
        ]
    said += ask("What is 23+14?")["messages"]
    one = chat(server, ask("", messages=said, tools=[TOOL], max_tokens=50))
    choice = one["choices"][0]
    assert choice["finish_reason"] == "tool_calls"
    (call,) = choice["message"]["tool_calls"]
    assert call["function"]["name"] == "calculate"
    assert json.loads(call["function"]["arguments"]) == {"expression": "23+14"}
    said += [choice["message"], {"role": "tool", "tool_call_id": call["id"], "content": "37"}]
    two = chat(server, ask("", messages=said, tools=[TOOL]))
    so_far = one["prompt_token_ids"] + choice["token_ids"]
    assert two["prompt_token_ids"][: len(so_far)] == so_far
    assert two["choices"][0]["message"]["content"] == "37" and two["choices"][0]["finish_reason"] == "stop"


def test_odd_tool_calls_survive_to_the_next_prompt_token_for_token(folder: str) -> None:
    """What the model wrote is put back as it was: key order, spaces, and ids that no tokenizer would give."""
    from transformers import AutoTokenizer

    prompts = Prompts(AutoTokenizer.from_pretrained(folder))
    messages = clean([{"role": "user", "content": "12*7?"}])
    first = prompts.encode(messages, [TOOL])
    for text in (
        '<tool_call>\n{"name": "calculate", "arguments": {"expression":   "12*7" }}\n</tool_call>',
        'Let me see. <tool_call>{"arguments": {"expression": "12*7"},"name": "calculate"}</tool_call>',
    ):
        ids = [i for c in text for i in prompts.tokenizer(c)["input_ids"]]  # one character at a time
        reply = parse_reply(text)
        assert json.loads(reply["tool_calls"][0]["function"]["arguments"]) == {"expression": "12*7"}
        prompts.remember(messages, clean([reply])[0], ids)
        said = [*messages, reply, {"role": "tool", "tool_call_id": reply["tool_calls"][0]["id"], "content": "84"}]
        second = prompts.encode(clean(said), [TOOL])
        assert second[: len(first) + len(ids)] == first + ids
        after = prompts.tokenizer.decode(second[len(first) + len(ids) :])
        assert after.startswith("<|im_end|>\n<|im_start|>tool\n84<|im_end|>\n")
        reply["tool_calls"][0]["function"]["arguments"] = '{"expression":"12*7"}'  # as a framework writes it anew
        assert prompts.encode(clean(said), [TOOL]) == second


def test_without_memory_the_template_writes_a_usual_call_as_it_was(folder: str) -> None:
    from transformers import AutoTokenizer

    prompts = Prompts(AutoTokenizer.from_pretrained(folder))
    text = '<tool_call>\n{"name": "calculate", "arguments": {"expression":   "12*7" }}\n</tool_call>'
    messages = clean([{"role": "user", "content": [{"type": "text", "text": "12*7?"}]}, parse_reply(text)])
    decoded = prompts.tokenizer.decode(prompts.encode(messages, [TOOL]))
    assert f"<|im_start|>assistant\n{text}<|im_end|>\n" in decoded
    assert "<|im_start|>user\n12*7?<|im_end|>" in decoded
    assert '"name": "calculate"' in decoded.split("</tools>")[0]


def test_malformed_calls_stay_text() -> None:
    for text in (
        "<tool_call>\n{'name': 1}\n</tool_call>",
        '<tool_call>\n{"name": "calculate"',
        '<tool_call>{"name": "calculate", "arguments": "12*7"}</tool_call>',
        "<tool_call>" + "[" * 100_000 + "</tool_call>",
    ):
        assert parse_reply(text) == {"role": "assistant", "content": text}


@pytest.mark.parametrize(
    ("change", "status", "words"),
    [
        ({"model": "other"}, 404, "does not exist; there are: smollm2-135m"),
        ({"messages": []}, 400, "at least one message"),
        ({"messages": [{"role": "robot"}]}, 400, "needs a `role`"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, 400, "no images"),
        ({"messages": [{"role": "user", "content": "long " * 9000}]}, 400, "context is 8192"),
        ({"chat_template": 1}, 400, "`chat_template` must be a text"),
        ({"stop_token_ids": ["a"]}, 400, "`stop_token_ids` must be a list of token ids"),
        ({"chat_template_kwargs": 1}, 400, "`chat_template_kwargs` must be an object"),
        ({"chat_template_kwargs": {"tokenize": True}}, 400, "may not hold 'tokenize'"),
        ({"response_format": {"type": "json_object"}}, 400, "`response_format`"),
        ({"tool_choice": "required"}, 400, "`tool_choice`"),
        ({"temperature": -1}, 400, "`temperature` must be a number from 0"),
        ({"n": 0}, 400, "`n` must be"),
        ({"max_tokens": 1.5}, 400, "whole number"),
    ],
)
def test_what_would_change_the_answer_is_refused(
    server: httpx.Client, change: dict[str, Any], status: int, words: str
) -> None:
    reply = server.post("/v1/chat/completions", json=ask("Hi") | change)
    assert reply.status_code == status
    assert words in reply.json()["error"]["message"]


def streamed(server: httpx.Client, body: dict[str, Any], path: str = "/v1/chat/completions") -> list[dict[str, Any]]:
    full = {**body, "stream": True, "stream_options": {"include_usage": True}}
    with server.stream("POST", path, json=full) as reply:
        assert reply.headers["content-type"].startswith("text/event-stream")
        *events, done, last = reply.read().decode().split("\n\n")
    assert (done, last) == ("data: [DONE]", "")
    return [json.loads(event.removeprefix("data: ")) for event in events]


def test_a_stream_says_what_a_whole_reply_does_token_for_token(server: httpx.Client) -> None:
    body = ask("Write 😀 and ü.", temperature=1.2, seed=5, n=2, max_tokens=12, return_token_ids=True, logprobs=True)
    whole = chat(server, body)
    first, second, *chunks, usage = streamed(server, body)
    assert first["prompt_token_ids"] == whole["prompt_token_ids"]
    assert [c["choices"][0]["delta"] for c in (first, second)] == [{"role": "assistant", "content": ""}] * 2
    assert usage["choices"] == [] and usage["usage"] == whole["usage"]
    assert len(chunks) > 4 and {c["object"] for c in chunks} == {"chat.completion.chunk"}
    for choice in whole["choices"]:
        mine = [c["choices"][0] for c in chunks if c["choices"][0]["index"] == choice["index"]]
        assert "".join(c["delta"]["content"] for c in mine) == choice["message"]["content"]
        assert [i for c in mine for i in c["token_ids"]] == choice["token_ids"]
        assert [e for c in mine for e in c["logprobs"]["content"]] == choice["logprobs"]["content"]
        assert [c["finish_reason"] for c in mine] == [None] * (len(mine) - 1) + [choice["finish_reason"]]


def test_a_stream_holds_back_what_a_stop_string_may_cut_and_tool_calls_until_they_are_whole(
    server: httpx.Client,
) -> None:
    full = chat(server, ask("Count from one to ten.", max_tokens=12))["choices"][0]["message"]["content"]
    stop = full[5:9]
    text = "".join(
        c["choices"][0]["delta"].get("content", "")
        for c in streamed(server, ask("Count from one to ten.", max_tokens=12, stop=stop))
        if c["choices"]
    )
    assert text == full.split(stop)[0]
    call = '<tool_call>\n{"name": "calculate", "arguments": {"expression": "1+1"}}\n</tool_call>'
    said = ask("Say it.")["messages"] + [{"role": "assistant", "content": call}, {"role": "user", "content": "Again."}]
    *_, last, _ = streamed(server, ask("", messages=said * 3, tools=[TOOL], max_tokens=50))
    (one,) = last["choices"][0]["delta"]["tool_calls"]
    assert one["index"] == 0 and one["function"] == {"name": "calculate", "arguments": '{"expression": "1+1"}'}
    assert last["choices"][0]["finish_reason"] == "tool_calls"


def test_a_text_completion_of_a_text_and_of_its_ids(server: httpx.Client) -> None:
    asked = {"temperature": 0, "max_tokens": 6, "return_token_ids": True, "logprobs": 0}
    reply = server.post("/v1/completions", json={"prompt": "The sea is", **asked}).json()
    (choice,) = reply["choices"]
    assert choice["text"] and len(choice["token_ids"]) == len(choice["logprobs"]["token_logprobs"]) == 6
    again = {"prompt": choice["prompt_token_ids"], **asked}
    assert server.post("/v1/completions", json=again).json()["choices"] == [choice]
    *chunks, usage = streamed(server, again, "/v1/completions")
    assert len(chunks) > 1 and usage["usage"] == reply["usage"]
    assert [c["choices"][0]["finish_reason"] for c in chunks] == [None] * (len(chunks) - 1) + ["length"]
    assert assembled(chunks)["choices"] == [choice]
    for wrong in ({"prompt": []}, {"prompt": [10**9]}, {"prompt": "a", "echo": True}, {"prompt": "a", "logprobs": 5}):
        assert server.post("/v1/completions", json=wrong).status_code == 400


def test_a_stream_that_nobody_reads_is_not_generated_on(server: httpx.Client) -> None:
    started = time.monotonic()
    endless = {**ask("Tell me a long story.", max_tokens=4000), "stream": True}
    for _ in range(3):
        with server.stream("POST", "/v1/chat/completions", json=endless) as reply:
            next(reply.iter_lines())
    chat(server, ask("Hi", max_tokens=1))
    slow = time.monotonic() - started
    # a batch of four would be at it for minutes
    assert slow < 60


def test_unknown_fields_are_ignored_and_broken_json_is_not(server: httpx.Client) -> None:
    assert chat(server, ask("Hi", user="me", metadata={"a": 1}, strict=True, max_tokens=1))["choices"]
    assert server.post("/v1/chat/completions", content=b"{").status_code == 400


@pytest.fixture(scope="session")
def adapter(model: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random LoRA adapter by peft, large enough to change replies, and what the model then says by peft alone."""
    import torch
    from peft import LoraConfig, get_peft_model

    target = tmp_path_factory.mktemp("lora")
    torch.manual_seed(0)
    config = LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", init_lora_weights=False)
    peft = get_peft_model(model, config)
    peft.save_pretrained(str(target))
    with torch.no_grad():
        logprobs = torch.log_softmax(peft(torch.tensor([[1, 9690, 198]])).logits[0, -1], -1)
    torch.save(logprobs, target / "expected.pt")
    peft.unload()
    return target


def test_adapters_are_loaded_used_and_taken_out_without_a_trace(server: httpx.Client, adapter: Path) -> None:
    base = ask("What is 2 + 2?", max_tokens=4)
    tuned = {**base, "model": "smollm2-135m-v1"}
    before = chat(server, base)
    load = {"lora_name": "smollm2-135m-v1", "lora_path": str(adapter)}
    assert server.post("/v1/load_lora_adapter", json=load).status_code == 200
    assert server.post("/v1/load_lora_adapter", json=load).status_code == 400
    names = [m["id"] for m in server.get("/v1/models").json()["data"]]
    assert names == ["smollm2-135m", "smollm2-135m-v1"]
    answers = together(server, [base, tuned, base, tuned])
    assert answers[0]["choices"][0]["token_ids"] == answers[2]["choices"][0]["token_ids"]
    assert answers[1]["choices"][0]["token_ids"] == answers[3]["choices"][0]["token_ids"]
    assert answers[1]["choices"][0]["token_ids"] != before["choices"][0]["token_ids"]
    assert chat(server, base)["choices"][0]["token_ids"] == before["choices"][0]["token_ids"]
    assert server.post("/v1/unload_lora_adapter", json={"lora_name": "smollm2-135m-v1"}).status_code == 200
    assert server.post("/v1/unload_lora_adapter", json={"lora_name": "smollm2-135m-v1"}).status_code == 404
    assert server.post("/v1/chat/completions", json=tuned).status_code == 404
    assert server.post("/v1/load_lora_adapter", json={**load, "lora_path": "/nowhere"}).status_code == 404


def test_a_merged_adapter_computes_what_peft_does_and_leaves_no_trace(model: Any, adapter: Path) -> None:
    import torch

    from guerdon_backends.lora import Swapper, read_adapter

    before = {name: weight.clone() for name, weight in model.named_parameters()}
    swapper = Swapper(model)
    loaded = read_adapter("a", adapter)
    swapper.check(loaded)
    swapper.use(loaded)
    with torch.no_grad():
        logprobs = torch.log_softmax(model(torch.tensor([[1, 9690, 198]])).logits[0, -1], -1)
    torch.testing.assert_close(logprobs, torch.load(adapter / "expected.pt"), atol=1e-3, rtol=1e-3)
    swapper.use(None)
    assert all(torch.equal(weight, before[name]) for name, weight in model.named_parameters())


def test_the_backend_swaps_adapters_and_survives_one_death(
    folder: str, adapter: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    task = Task("1", "What is 2 + 2?")
    body = ask("What is 2 + 2?", max_tokens=2)
    monkeypatch.setenv("PYTHONFAULTHANDLER", "1")

    async def main() -> None:
        async with transformers(folder, threads=1) as endpoint:
            base = await endpoint.complete(body, task)
            assert base["model"] == "smollm2-135m" and base["prompt_token_ids"]
            await endpoint.load_adapter(adapter)
            assert endpoint.model == "smollm2-135m-v1"
            tuned = await endpoint.complete(body, task)
            await endpoint.load_adapter(adapter)
            assert endpoint.model == "smollm2-135m-v2"
            pid = endpoint.process.pid  # type: ignore[attr-defined]
            os.kill(pid, signal.SIGABRT)
            again = await asyncio.gather(*(endpoint.complete(body, task) for _ in range(3)))
            assert all(a["choices"][0]["token_ids"] == tuned["choices"][0]["token_ids"] for a in again)
            (warning,) = [m for m in caplog.messages if "Starting it again" in m]
            assert "died (killed by signal 6). The end of its log:\n" in warning
            assert re.search(r'File ".*server.py", line \d+ in main', warning)  # by Python's fault handler
            await endpoint.load_adapter(None)
            again_base = await endpoint.complete(body, task)
            assert again_base["choices"][0]["token_ids"] == base["choices"][0]["token_ids"]
            os.kill(endpoint.process.pid, signal.SIGKILL)  # type: ignore[attr-defined]
            with pytest.raises(BackendError, match=r"died \(killed by signal 9\)\. Its log is empty") as error:
                await endpoint.complete(body, task)
            assert error.value.kind == "server_died"

    asyncio.run(main())


def test_no_server_is_left_when_its_parent_is_killed(folder: str, tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(
        "import asyncio, sys\n"
        "from guerdon_backends.embedded import transformers\n"
        "async def main():\n"
        "    async with transformers(sys.argv[1]) as endpoint:\n"
        "        print(endpoint.process.pid, flush=True)\n"
        "        await asyncio.sleep(60)\n"
        "asyncio.run(main())\n"
    )
    with subprocess.Popen([sys.executable, str(script), folder], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        parent.kill()
    deadline = time.monotonic() + 60
    while (state := Path(f"/proc/{child}/stat")).exists() and state.read_text().split()[2] != "Z":
        assert time.monotonic() < deadline, "the server outlived its parent"
        time.sleep(0.05)
