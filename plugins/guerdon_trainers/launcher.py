"""The command that starts a training in several processes: accelerate's launcher with one of the configurations in
accelerate/, whose environment (ranks, addresses) it passes on to each process.

The launcher gives each process a session of its own: who ends it must let it end them (SIGTERM), or the processes must
notice that their parent has gone.
"""

import importlib.util
import os
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from guerdon.recipe import Launch
from guerdon.settings import SettingError
from guerdon_trainers.memory import cards, has_cuda

CONFIGS = Path(__file__).parent / "accelerate"
GPUS, STRATEGY = ("launch", "gpus"), ("launch", "strategy")


def launcher(launch: Launch, settings: Mapping[str, Any]) -> tuple[list[str], dict[str, str]]:
    """The words before the name of the module that each process runs, and what to add to the environment.

    Without a GPU the processes are on the CPU and talk by gloo.

    Raises:
        SettingError: this machine cannot do what `launch` asks for.
    """
    check(launch)
    cuda = has_cuda()
    strategy = "fsdp2" if launch.strategy == "fsdp" else launch.strategy
    words = [
        *(sys.executable, "-m", "accelerate.commands.launch"),
        *("--config_file", str(CONFIGS / f"{strategy}.yaml")),
        *("--num_processes", str(launch.world)),
        *("--num_machines", str(launch.nodes)),
        *("--machine_rank", str(launch.node_rank)),
        *("--main_process_ip", launch.main_address),
        *("--main_process_port", str(_port(launch))),
        *("--mixed_precision", precision() if cuda else "no"),
        "-m",
    ]
    environment = {"ACCELERATE_LOG_LEVEL": os.environ.get("ACCELERATE_LOG_LEVEL", "info")}
    if not cuda:
        environment["ACCELERATE_USE_CPU"] = "true"
    if settings.get("threads"):
        environment["OMP_NUM_THREADS"] = str(settings["threads"])
    return words, environment


def check(launch: Launch) -> None:
    """Whether this machine can start these processes.

    Raises:
        SettingError: says what is missing, and how to get it.
    """
    here = cards()
    if here and launch.gpus > len(here):
        raise SettingError(f"launch.gpus is {launch.gpus}, and this machine has {len(here)} ({here[0].name})", GPUS)
    if launch.nodes > 1 and "main_address" not in launch.model_fields_set:
        raise SettingError(
            f"launch.nodes is {launch.nodes}: give the main machine's address too, launch.main_address or MASTER_ADDR",
            ("launch", "main_address"),
        )
    if launch.strategy != "ddp" and not has_cuda():
        raise SettingError(f"launch.strategy {launch.strategy} is for GPUs, and there is none here: take ddp", STRATEGY)
    if launch.strategy.startswith("zero") and importlib.util.find_spec("deepspeed") is None:
        raise SettingError(
            f"launch.strategy {launch.strategy} needs DeepSpeed: pip install 'guerdon[deepspeed]'. Or take "
            "fsdp2, which splits the same and is torch's own",
            STRATEGY,
        )


def precision() -> str:
    """Mixed precision by the cards: bf16 from compute capability 8.0 (Ampere) on, fp16 below."""
    return "fp16" if any(card.capability is not None and card.capability < 8 for card in cards()) else "bf16"


def _port(launch: Launch) -> int:
    """The port of the meeting point; on one machine another one where it is taken, or 0."""
    if launch.nodes > 1:
        return launch.main_port
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", launch.main_port))
        except OSError:
            probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
