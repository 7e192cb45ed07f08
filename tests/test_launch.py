"""A training in several processes: what is started, and that it learns what one process would."""

import asyncio
import json
import socket
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from tiny import byte_tokenizer, save_model

from guerdon.errors import TrainingError
from guerdon.plugins import Plugins
from guerdon.recipe import Launch
from guerdon.registry import Registry, load
from guerdon.resolve import Bound
from guerdon.settings import SettingError, validate
from guerdon.trainer_run import train
from guerdon.training import TrainingJob
from guerdon_trainers.launcher import CONFIGS, launcher

TINY = {"learning_rate": 1e-2, "lora_rank": 4, "threads": 1, "max_steps": 3, "gradient_accumulation": 1}


class Watcher:
    """The engine's part: keeps what a training reports."""

    def __init__(self) -> None:
        self.logged: list[dict[str, float]] = []
        self.said: list[str] = []

    def log(self, step: int, total: int, metrics: Mapping[str, float]) -> None:
        self.logged.append({"step": step, **metrics})

    def say(self, text: str) -> None:
        self.said.append(text)

    async def generate(self, *_: Any) -> list[dict[str, Any]]:
        raise AssertionError("sft does not roll out")

    score = generate


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    for name in ("N_GPUS", "NNODES", "NODE_RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    pytest.importorskip("torch")
    return Path(save_model(tmp_path / "model", byte_tokenizer()))


def order(model: Path, folder: Path) -> dict[str, Any]:
    """A job, with rows of very different lengths."""
    folder.mkdir()
    rows = folder / "rows.jsonl"
    made = [{"input_ids": ids, "labels": ids} for n in range(24) for ids in [[2 + (n * k) % 60 for k in range(4 + n)]]]
    rows.write_text("".join(json.dumps(row) + "\n" for row in made))
    job = {"model": str(model), "adapter": None, "rows": rows, "output": folder / "out", "seed": 3}
    return {**job, "work": folder / "work"}


@pytest.mark.usefixtures("plain")
def test_two_processes_learn_what_one_does(model: Path, tmp_path: Path) -> None:
    component = Registry(Plugins(), tmp_path).find("trainers", "sft")
    function, one, two = load(component), Watcher(), Watcher()
    bound = Bound(component, function, validate("sft", function, {**TINY, "batch_size": 2}))
    job = order(model, tmp_path / "two")
    asyncio.run(
        train(bound, job, two, launch=Launch(gpus=2), folder=tmp_path, output=tmp_path / "log.txt", timeout=200)
    )
    alone = validate("sft", function, {**TINY, "batch_size": 4})
    function(TrainingJob(**order(model, tmp_path / "one"), log=one.log, say=one.say), **alone)

    losses = [[entry["loss"] for entry in run.logged if "loss" in entry] for run in (one, two)]
    assert len(losses[0]) == 3 and losses[0] == pytest.approx(losses[1], rel=1e-4)
    assert [entry["step"] for entry in two.logged] == [entry["step"] for entry in one.logged], "the main one alone logs"
    assert len(two.said) == len(one.said)
    assert weights(tmp_path / "two" / "out") == pytest.approx(weights(tmp_path / "one" / "out"), rel=1e-3, abs=1e-5)
    files = [sorted(path.name for path in (tmp_path / name / "out").iterdir()) for name in ("one", "two")]
    assert files[0] == files[1]


def weights(adapter: Path) -> list[float]:
    from safetensors.torch import load_file

    loaded = load_file(str(adapter / "adapter_model.safetensors"))
    return [float(loaded[name].double().square().sum()) for name in sorted(loaded)]


@pytest.mark.usefixtures("plain")
def test_the_words_of_the_command() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        busy: int = taken.getsockname()[1]
        words, environment = launcher(Launch(gpus=2, main_port=busy), {"threads": 3})
        assert int(words[words.index("--main_process_port") + 1]) != busy
        there = Launch(gpus=8, nodes=2, node_rank=1, main_address="192.168.1.1", main_port=busy)
        words, _ = launcher(there, {})
        assert words[words.index("--main_process_port") + 1] == str(busy), "the other machines know this one"
    assert environment["OMP_NUM_THREADS"] == "3" and environment["ACCELERATE_USE_CPU"] == "true"
    options = dict(zip(words[3:-1:2], words[4:-1:2], strict=True))
    assert words[:3] == [sys.executable, "-m", "accelerate.commands.launch"] and words[-1] == "-m"
    assert options["--num_processes"] == "16" and options["--num_machines"] == "2"
    assert options["--machine_rank"] == "1" and options["--main_process_ip"] == "192.168.1.1"
    assert options["--mixed_precision"] == "no" and Path(options["--config_file"]) == CONFIGS / "ddp.yaml"
    with pytest.raises(SettingError, match="is for GPUs"):
        launcher(Launch(gpus=2, strategy="zero2"), {})


def test_the_launchers_configurations_are_those_of_open_r1_and_trl() -> None:
    zero3 = yaml.safe_load((CONFIGS / "zero3.yaml").read_text())
    assert zero3 == {
        "compute_environment": "LOCAL_MACHINE",
        "debug": False,
        "deepspeed_config": {
            "deepspeed_multinode_launcher": "standard",
            "offload_optimizer_device": "none",
            "offload_param_device": "none",
            "zero3_init_flag": True,
            "zero3_save_16bit_model": True,
            "zero_stage": 3,
        },
        "distributed_type": "DEEPSPEED",
        "downcast_bf16": "no",
        "machine_rank": 0,
        "main_training_function": "main",
        "mixed_precision": "bf16",
        "num_machines": 1,
        "num_processes": 8,
        "rdzv_backend": "static",
        "same_network": True,
        "tpu_env": [],
        "tpu_use_cluster": False,
        "tpu_use_sudo": False,
        "use_cpu": False,
    }
    trl = pytest.importorskip("trl")
    for name in ("zero2.yaml", "zero3.yaml", "fsdp2.yaml"):
        theirs = Path(trl.__file__).parent / "accelerate_configs" / name
        assert yaml.safe_load((CONFIGS / name).read_text()) == yaml.safe_load(theirs.read_text())


HANGS = """
import os, subprocess, time
from pathlib import Path

def hangs(job):
    child = subprocess.Popen(["sleep", "300"])
    Path(job.work, os.environ["RANK"]).write_text(f"{os.getpid()} {child.pid}")
    time.sleep(300)

hangs.launcher = "guerdon_trainers.launcher:launcher"
"""


@pytest.mark.usefixtures("plain")
def test_no_process_is_left_when_a_training_is_interrupted(tmp_path: Path) -> None:
    """Nor a child of one: they are in sessions of their own, which a signal to the launcher's group does not reach."""
    pytest.importorskip("accelerate")
    (tmp_path / "hangs.py").write_text(HANGS)
    component = Registry(Plugins(), tmp_path).find("trainers", "./hangs.py:hangs")
    bound = Bound(component, load(component), {})
    job = {"model": "", "adapter": None, "rows": tmp_path, "output": tmp_path / "out", "seed": 0, "work": tmp_path}
    files = [tmp_path / "0", tmp_path / "1"]

    async def interrupted() -> None:
        training = train(
            bound, job, Watcher(), launch=Launch(gpus=2), folder=tmp_path, output=tmp_path / "log.txt", timeout=100
        )
        task = asyncio.create_task(training)
        while not task.done() and not all(file.exists() and file.read_text() for file in files):
            await asyncio.sleep(0.05)
        task.cancel()
        await task

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(interrupted())
    ids = [int(number) for file in files for number in file.read_text().split()]
    until(lambda: not any(runs(number) for number in ids))


def runs(process: int) -> bool:
    """Whether it is more than an entry that nobody has waited for."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.usefixtures("plain")
def test_a_training_that_hangs_says_where(tmp_path: Path) -> None:
    (tmp_path / "hangs.py").write_text("import time\n\ndef hangs(job):\n    time.sleep(300)\n")
    component = Registry(Plugins(), tmp_path).find("trainers", "./hangs.py:hangs")
    job = {"model": "", "adapter": None, "rows": tmp_path, "output": tmp_path / "out", "seed": 0, "work": tmp_path}
    training = train(
        Bound(component, load(component), {}),
        job,
        Watcher(),
        launch=Launch(),
        folder=tmp_path,
        output=tmp_path / "log",
        timeout=7,
    )
    with pytest.raises(TrainingError, match=r"longer than 7 s(?s:.*)it was at(?s:.*)hangs\.py\", line 4 in hangs"):
        asyncio.run(training)


def until(true: Any, seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)
