"""What guerdon refuses or notes although each value is right by itself, and what leaves a run as it is."""

import re
from pathlib import Path

import pytest
from chat_server import Reply, serve
from command import guerdon, last_run, start, trajectories, write_recipe

from guerdon.errors import StoreError
from guerdon.store import Run, list_runs

NOWHERE = "http://127.0.0.1:9/v1"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["tasks.expose=[answer]"], "tasks: expose: 'answer' holds the reference answer, which an agent must not see"),
        (["tasks.expose=[nosuch]"], "tasks: expose: the tasks have no column 'nosuch'"),
        (["tasks.split=test"], "split is for a hub data set (`dataset`)"),
        (["eval.holdout=2.5"], "eval.holdout: give a number of tasks, or a fraction below 1, not 2.5"),
        (["scoring.timeout=-1"], "scoring.timeout: Input should be greater than 0"),
        (["rewards.numeric.weight=.nan"], "weight: Input should be a finite number"),
        (["loop.warmup={backend: demonstrations, tasks: 1}"], "there is a warm-up but no trainer"),
        (["trainer=sft"], "serves only what its server has, not the adapter"),
    ],
)
def test_check_refuses(tmp_path: Path, overrides: list[str], message: str) -> None:
    write_recipe(tmp_path, NOWHERE)
    assert message in guerdon(tmp_path, "check", "recipe.yaml", *overrides, code=1).err


def test_check_notes_what_is_hardly_meant(tmp_path: Path) -> None:
    write_recipe(tmp_path, NOWHERE, backend="transformers", trainer="sft")
    told = guerdon(
        tmp_path, "check", "recipe.yaml", "--json", "eval.tasks.path=tasks.jsonl", "loop.group_size=2",
        "sampling.temperature=0", "trainer.sft.max_seq_length=100",
    ).json  # fmt: skip
    assert told["notes"][:3] == [
        "trainer 'sft': 'max_seq_length' is now 'max_length'",
        "4 of the 4 tasks to evaluate on are trained on too",
        "sampling.temperature is 0: the attempts at a task will all be the same",
    ]


def test_errors_are_json_where_json_is_asked_for(tmp_path: Path) -> None:
    write_recipe(tmp_path, NOWHERE)
    told = guerdon(tmp_path, "check", "recipe.yaml", "loop.iteration=1", "--json", code=1).json
    assert told["ok"] is False and told["error"]["kind"] == "recipe"
    assert "Did you mean 'iterations'?" in told["error"]["message"]


def test_a_plugin_that_is_switched_off_is_said_to_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GUERDON_PLUGINS", "-agents")
    write_recipe(tmp_path, NOWHERE)
    said = guerdon(tmp_path, "check", "recipe.yaml", code=1).err
    assert "there is no agent 'chat'" in said and "GUERDON_PLUGINS=-agents narrows what is loaded" in said


def test_two_processes_do_not_execute_one_run(tmp_path: Path) -> None:
    with serve(Reply(hang=30)) as server:
        write_recipe(tmp_path, server.base_url, backend={"openai": {"base_url": server.base_url, "timeout": 60}})
        process = start(tmp_path, "run", "recipe.yaml")
        while not server.requests:
            assert process.poll() is None
        name = list_runs(tmp_path / "runs")[-1].name
        assert "is being executed by another process" in guerdon(tmp_path, "run", "--resume", name, code=1).err
        assert "is unfinished and idle" in guerdon(tmp_path, "run", "--resume", code=1).err
        process.terminate()
        process.communicate()


def test_a_run_in_which_every_rollout_fails_has_not_succeeded(tmp_path: Path) -> None:
    with serve(Reply(status=500)) as server:
        write_recipe(tmp_path, server.base_url)
        assert "all of the 4 rollouts failed" in guerdon(tmp_path, "run", "recipe.yaml", code=1).err
    with serve() as server:
        (run,) = list_runs(tmp_path / "runs")
        recipe = run / "recipe.yaml"
        recipe.write_text(re.sub(r"http://127[^\n]*", server.base_url, recipe.read_text()))
        guerdon(tmp_path, "run", "--resume")
    assert [t.reward for t in trajectories(tmp_path)] == [1.0] * 4, "failed rollouts are tried again"


def test_a_reward_that_always_fails_stops_even_a_small_run(tmp_path: Path) -> None:
    (tmp_path / "r.py").write_text("def boom(answer): raise ValueError('no')\n")
    with serve() as server:
        write_recipe(tmp_path, server.base_url, rewards=["./r.py:boom"])
        said = guerdon(tmp_path, "run", "recipe.yaml", code=1).err
    assert "reward 'boom' failed on all trajectories: ValueError: no" in said


def test_evaluating_an_unfinished_run_leaves_it_unfinished(tmp_path: Path) -> None:
    with serve() as server:
        write_recipe(tmp_path, server.base_url, eval={"holdout": 1})
        guerdon(tmp_path, "rollout", "recipe.yaml")
        guerdon(tmp_path, "eval", "last")
        with last_run(tmp_path) as run:
            assert list(run.stages()) == ["rollout-1", "finished", "eval-before"]
        guerdon(tmp_path, "eval", "recipe.yaml")
        assert len(list_runs(tmp_path / "runs")) == 2


def test_a_run_whose_tasks_have_changed_does_not_go_on(tmp_path: Path) -> None:
    with serve() as server:
        write_recipe(tmp_path, server.base_url)
        guerdon(tmp_path, "rollout", "recipe.yaml")
        assert "Go on" not in guerdon(tmp_path, "show", "last").out
        tasks = tmp_path / "tasks.jsonl"
        tasks.write_text(tasks.read_text().replace("What is 1 ", "What is 5 "))
        (folder,) = list_runs(tmp_path / "runs")
        run = Run(folder)
        run._db.execute("delete from stages")
        run._db.commit()
        run.close()
        assert f"Go on with it: guerdon run --resume {folder.name}" in guerdon(tmp_path, "show", "last").out
        said = guerdon(tmp_path, "run", "--resume", code=1).err
    assert "is no longer what it was when run" in said


def test_a_run_whose_tasks_are_fewer_does_not_go_on(tmp_path: Path) -> None:
    with serve(Reply(status=400)) as server:
        write_recipe(tmp_path, server.base_url)
        guerdon(tmp_path, "run", "recipe.yaml", code=1)
        tasks = tmp_path / "tasks.jsonl"
        tasks.write_text("".join(tasks.read_text().splitlines(keepends=True)[:3]))
        said = guerdon(tmp_path, "run", "--resume", code=1).err
    assert "1 task of run " in said and "e.g. '3', is no longer there: the source has changed" in said


def test_an_agent_may_change_the_working_folder(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text(
        "import os\n"
        "async def wanders(task, policy):\n"
        "    os.chdir('/')\n"
        "    return str(int(task.prompt.split()[2]) + 1)\n"
    )
    with serve() as server:
        write_recipe(tmp_path, server.base_url, agent="./a.py:wanders")
        said = guerdon(tmp_path, "run", "recipe.yaml").out
    assert f"(in runs/{list_runs(tmp_path / 'runs')[0].name})" in said
    assert [t.reward for t in trajectories(tmp_path)] == [1.0] * 4


def test_a_damaged_run_is_listed_as_such(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "20260101-000000-x"
    folder.mkdir(parents=True)
    (folder / "run.json").write_text("{")
    (row,) = guerdon(tmp_path, "runs", "--json").json
    assert row["state"] == "unreadable"
    with pytest.raises(StoreError, match="is no readable run"):
        Run(folder)
