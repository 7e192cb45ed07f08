"""The recipe: one YAML file as typed, frozen data.

A component is written as its name (`numeric`) or as a name with settings (`numeric: {relative: 1e-6}`). Its settings
are not checked here but against the component itself (`guerdon.resolve`): the core knows no component.
"""

from collections.abc import Mapping
from contextlib import suppress
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema, field_validator, model_validator

from guerdon.errors import counted

Seconds = Annotated[float, Field(gt=0, le=10_000_000)]


class Part(BaseModel):
    """A piece of a recipe; unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)


class Use(Part):
    """A component as a recipe names it, with the settings given there."""

    ref: str
    settings: dict[str, Any] = {}


class RewardUse(Use):
    """A reward: beside its own settings it has a weight, a name in tables, and a deadline."""

    weight: float = 1.0
    label: str = ""
    timeout: Seconds | None = None

    @property
    def name(self) -> str:
        return self.label or self.ref.rpartition(":")[2]


REWARD_KEYS = ("weight", "label", "timeout")


def _use(value: Any) -> Any:
    """`name` or `{name: {settings}}` as the fields of a `Use`."""
    if isinstance(value, str):
        return {"ref": value}
    if isinstance(value, Mapping) and len(value) == 1:
        ((ref, settings),) = value.items()
        if isinstance(ref, str) and (settings is None or isinstance(settings, Mapping)):
            return {"ref": ref, "settings": dict(settings or {})}
    if isinstance(value, Use):
        return value
    raise ValueError("give a name, or one name with its settings: `name: {setting: value}`")


def _reward(value: Any) -> Any:
    use = _use(value)
    if isinstance(use, Mapping):
        settings = dict(use.get("settings", {}))
        return {**use, "settings": settings} | {k: settings.pop(k) for k in REWARD_KEYS if k in settings}
    return use


def _kind(kind: str) -> WithJsonSchema:
    """A mark in the JSON Schema; `explain.recipe_schema` puts the installed components there."""
    return WithJsonSchema({"component": kind})


Agent = Annotated[Use, BeforeValidator(_use), _kind("agents")]
Trainer = Annotated[Use, BeforeValidator(_use), _kind("trainers")]
Backend = Annotated[Use, BeforeValidator(_use), _kind("backends")]
Source = Annotated[Use, BeforeValidator(_use), _kind("tasks")]
Executor = Annotated[Use, BeforeValidator(_use), _kind("executors")]
Reward = Annotated[RewardUse, BeforeValidator(_reward), _kind("rewards")]


class Tasks(Part):
    """Where tasks come from: exactly one of `path`, `dataset` and `source`."""

    path: str | None = None
    """A JSONL, JSON, CSV or parquet file."""
    dataset: str | None = None
    """A data set on the hub, by name; `subset` and `split` choose in it."""
    source: Source | None = None
    """A plugin's task source, or a Python function, that yields rows."""
    subset: str | None = None
    """A part of a hub data set."""
    split: str = "train"
    """A split of a hub data set."""
    fields: dict[str, str] = {}
    """Which column is the `prompt`, the `answer`, the `id`; guessed from the usual names where not given."""
    limit: Annotated[int, Field(ge=1)] | None = None
    """At most so many tasks, after shuffling."""
    shuffle: bool | int = False
    """Shuffle with the recipe's seed (true) or this one."""
    expose: list[str] = []
    """Columns that the agent may see beside the prompt."""

    @model_validator(mode="after")
    def _one_origin(self) -> "Tasks":
        given = [n for n in ("path", "dataset", "source") if getattr(self, n) is not None]
        if len(given) != 1:
            raise ValueError(f"give exactly one of path, dataset and source (given: {', '.join(given) or 'none'})")
        hub_only = {"subset", "split"} & self.model_fields_set
        if hub_only and self.dataset is None:
            raise ValueError(f"{hub_only.pop()} is for a hub data set (`dataset`)")
        return self


class Data(Part):
    """Rows to train on, from files, a hub data set or a mixture of sources: exactly one of `path`, `dataset`, `mix`."""

    path: str | list[str] | None = None
    """JSON, JSONL, CSV or parquet files; patterns like rows/*.jsonl too."""
    dataset: str | None = None
    """A data set on the hub, by name; `subset`, `split` and `revision` choose in it."""
    mix: "Annotated[list[MixPart], Field(min_length=1)] | None" = None
    """Several sources, each with its share of the rows as `weight`."""
    subset: str | None = None
    """A part of a hub data set."""
    split: str = "train"
    """A split of a hub data set."""
    revision: str | None = None
    """A version of a hub data set."""
    fields: dict[str, str] = {}
    """Which column is the `prompt`, `response`, `system`, `messages`, `tools`, `text`; recognised where not given."""
    system: str | None = None
    """A system message for the rows that have none."""
    limit: Annotated[int, Field(ge=1)] | None = None
    """At most so many rows, after shuffling."""
    shuffle: bool | int = False
    """Shuffle with the recipe's seed (true) or this one."""
    validation: "Annotated[float, Field(gt=0, strict=True)] | Validation | None" = None
    """Rows for the loss during training: a number of them, a fraction below 1, or a source of their own."""

    @field_validator("validation", mode="before")
    @classmethod
    def _number(cls, value: Any) -> Any:
        """What the environment holds is text; a file's name is no number."""
        with suppress(ValueError):
            return float(value) if isinstance(value, str) else value
        return value

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: Any) -> Any:
        """`data: rows.jsonl` is short for `data: {path: rows.jsonl}`."""
        return {"path": value} if isinstance(value, (str, list)) else value

    @model_validator(mode="after")
    def _one_origin(self) -> "Data":
        given = [n for n in ("path", "dataset", "mix") if getattr(self, n) is not None]
        if len(given) != 1:
            raise ValueError(f"give exactly one of path, dataset and mix (given: {', '.join(given) or 'none'})")
        hub_only = {"subset", "split", "revision"} & self.model_fields_set
        if hub_only and self.dataset is None:
            raise ValueError(f"{hub_only.pop()} is for a hub data set (`dataset`)")
        return self


class MixPart(Data):
    """One source of a mixture."""

    weight: Annotated[float, Field(gt=0)]
    """Its share of the rows, beside the other weights."""
    mix: None = None
    """A mixture has no mixtures in it."""
    validation: None = None
    """Is the whole mixture's."""


class Validation(Data):
    """Rows for the loss during training."""

    mix: None = None
    """Is the training rows'."""
    validation: None = None
    """Is the training rows'."""


Data.model_rebuild()


class Sampling(Part):
    """How the policy samples: over what the agent asks for."""

    temperature: Annotated[float, Field(ge=0)] | None = 1.0
    """0 takes the likeliest token each time; null leaves it to the agent and the server."""
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    """Sample from the likeliest tokens that make up this much."""
    top_k: int | None = None
    """Sample from so many of the likeliest tokens."""
    max_tokens: Annotated[int, Field(ge=1)] | None = 512
    """Of one turn, at most: an agent may ask for fewer; null leaves it to the agent and the server."""
    stop: list[str] | None = None
    """Texts that end a turn."""
    seed: int | None = None
    """The same for every request: mind that a group then is one answer many times."""

    def body(self) -> dict[str, Any]:
        """As fields of a chat completion request."""
        return self.model_dump(exclude_none=True)


class Eval(Part):
    """The tasks that are never trained on; the agent is run on them before and after."""

    holdout: Annotated[float, Field(gt=0)] | None = None
    """Kept back from `tasks`: a number of them, or a fraction below 1."""
    tasks: Tasks | None = None
    """Tasks of their own, instead."""
    temperature: Annotated[float, Field(ge=0)] = 0.0
    """Instead of the sampling's."""
    attempts: Annotated[int, Field(ge=1)] = 1
    """Rollouts a task; the table shows their mean."""
    every: Annotated[int, Field(ge=0)] = 1
    """Iterations between two evaluations; 0 for none but before and after."""

    @model_validator(mode="after")
    def _one_origin(self) -> "Eval":
        if (self.holdout is None) == (self.tasks is None):
            raise ValueError("give either holdout (a number of tasks to keep back) or tasks")
        return self


class Warmup(Part):
    """Demonstrations before the first iteration: the same agent with another backend as its model."""

    backend: Backend
    """What answers in the policy's place: `demonstrations`, or a stronger model behind `openai`."""
    model: str | None = None
    """The backend's model, where it has one."""
    tasks: Annotated[int, Field(ge=1)]
    """How many of the tasks to demonstrate."""
    trainer: dict[str, Any] = {}
    """Settings of the trainer that differ here."""


class Loop(Part):
    """What one iteration rolls out, and what of it is trained on."""

    iterations: Annotated[int, Field(ge=0)] = 1
    """Of rolling out, scoring and training."""
    group_size: Annotated[int, Field(ge=1)] = 4
    """Attempts a task."""
    min_reward: float | None = None
    """Trajectories below are never trained on; by default those without a positive reward."""
    keep_top: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Of the others, the best fraction."""
    per_task: Annotated[int, Field(ge=1)] | None = None
    """At most so many trajectories of one task; all by default."""
    patience: Annotated[int, Field(ge=1)] | None = None
    """Stop after so many iterations without a better evaluation; by default, never."""
    tasks: Annotated[int, Field(ge=1)] | None = None
    """Tasks an iteration, in turn; all by default."""
    train_timeout: Seconds = 86400.0
    """Seconds that one training may take."""
    warmup: Warmup | None = None
    """Demonstrations before the first iteration."""


class Rollout(Part):
    """How rollouts are run."""

    concurrency: Annotated[int, Field(ge=1)] = 16
    """Rollouts at a time."""
    timeout: Seconds = 300.0
    """Seconds a rollout may take."""
    max_failures: Annotated[float, Field(ge=0, le=1)] = 0.5
    """The share of failed rollouts beyond which the run stops."""
    tries: Annotated[int, Field(ge=1)] = 3
    """For a rollout whose server, tools or worker failed it; what the agent did wrong is not tried again."""
    workers: Annotated[int, Field(ge=0)] = 0
    """Processes that roll out, each `concurrency` at a time; 0: this one does."""
    executor: Executor = Use(ref="processes")
    """What starts the workers: `processes` on this machine, or `ray`."""


class Launch(Part):
    """The processes that a training runs in."""

    gpus: Annotated[int, Field(ge=1)] = 1
    """Of this machine; without a GPU, processes on its CPU."""
    strategy: Literal["ddp", "zero2", "zero3", "fsdp2", "fsdp"] = "ddp"
    """What is split among them: rows (ddp), gradients and optimizer too (zero2), weights too (zero3, fsdp2; fsdp
    is run as fsdp2)."""
    nodes: Annotated[int, Field(ge=1)] = 1
    """Machines; the command is started on each of them."""
    node_rank: Annotated[int, Field(ge=0)] = 0
    """Which of them this is; 0 is the main one."""
    main_address: str = "127.0.0.1"
    """The main machine's address."""
    main_port: Annotated[int, Field(ge=0, le=65535)] = 29500
    """A free port there."""

    @field_validator("strategy", mode="before")
    @classmethod
    def _not_megatron(cls, value: Any) -> Any:
        if value == "megatron":
            raise ValueError("megatron is not for guerdon: take verl for it (https://github.com/volcengine/verl)")
        return value

    @model_validator(mode="after")
    def _rank_exists(self) -> "Launch":
        if self.node_rank >= self.nodes:
            raise ValueError(
                f"node_rank is {self.node_rank}: of {counted(self.nodes, 'node')} the last is {self.nodes - 1} (what "
                "the recipe does not say is taken from the environment's NODE_RANK and NNODES)"
            )
        return self

    @property
    def world(self) -> int:
        """How many processes there are on all machines."""
        return self.gpus * self.nodes


LAUNCH_VARIABLES = {
    "gpus": "N_GPUS",
    "nodes": "NNODES",
    "node_rank": "NODE_RANK",
    "main_address": "MASTER_ADDR",
    "main_port": "MASTER_PORT",
}
"""Of the environment, for what a recipe's `launch` does not say."""


class Scoring(Part):
    """How rewards are run, and what their failures mean."""

    on_error: Literal["drop", "zero", "retry", "abort"] = "drop"
    """When a reward fails on a trajectory: give that no reward, count the score as 0, try once more, or stop the
    run."""
    max_errors: Annotated[float, Field(ge=0, le=1)] = 0.5
    """The share of failed scores of one reward beyond which the run stops."""
    timeout: Seconds = 10.0
    """Seconds one score may take, a batch reward's together as many times that; then its worker process is killed."""
    workers: Annotated[int, Field(ge=1)] = 2
    """Processes for rewards that are not quick and pure by their own word."""
    memory_mb: Annotated[int, Field(ge=64)] | None = 4096
    """What one of these processes may allocate; null for no limit."""


class Recipe(Part):
    """A whole recipe."""

    model: str
    """A hub id, a folder, or a name that a plugin knows."""
    backend: Backend = Use(ref="auto")
    """What serves the model."""
    adapter: str | None = None
    """A LoRA adapter to go on from: its folder, or a run, whose best checkpoint is meant, or the only one."""
    data: Data | None = None
    """Rows to train on before any rollout."""
    tasks: Tasks | None = None
    """The problems; required without `data`."""
    agent: Agent = Use(ref="chat")
    """What turns a task into an answer."""
    sampling: Sampling = Sampling()
    """How the model samples; over what the agent asks for."""
    rewards: list[Reward] = []
    """What a good answer is; a trajectory's reward is their weighted sum. Required with `tasks` and `eval`."""
    trainer: Trainer | None = None
    """What updates the model; without one the run ends after scoring."""
    loop: Loop = Loop()
    """What is rolled out and trained on."""
    eval: Eval | None = None
    """Held-out tasks, for the comparison of before and after."""
    rollout: Rollout = Rollout()
    """How rollouts are run."""
    scoring: Scoring = Scoring()
    """How rewards are run."""
    launch: Launch = Launch()
    """The processes that a training runs in; what is not said is taken from the environment's N_GPUS, NNODES,
    NODE_RANK, MASTER_ADDR and MASTER_PORT."""
    seed: int = 0
    """Of the split, the shuffling, the choice and the training."""
    runs: str = "runs"
    """The folder that runs are written to."""

    @model_validator(mode="after")
    def _has_a_job(self) -> "Recipe":
        if self.tasks is None and self.data is None:
            raise ValueError("give tasks (problems to roll out and score), or data (rows to train on), or both")
        if not self.rewards and (self.tasks or self.eval):
            raise ValueError("give rewards: what a good answer to a task is")
        if self.data and not self.trainer:
            raise ValueError("there is data but no trainer; name one, e.g. trainer: sft")
        if self.eval and self.eval.tasks is None and self.tasks is None:
            raise ValueError("eval.holdout keeps tasks back, and there are none: give eval.tasks")
        return self
