"""Reading recipes: how values are written, overrides, the environment, places, and what is explained."""

import json
from pathlib import Path
from typing import Any

import pytest
from command import guerdon, write_recipe

from guerdon.errors import RecipeError
from guerdon.loading import Loaded, dotted, parse_recipe, read_recipe

BASE = "model: m\ntasks: {path: t.jsonl}\nrewards: [numeric]\n"


def load(text: str = "", *overrides: str) -> Loaded:
    return parse_recipe(BASE + text, overrides, source="r.yaml", folder=Path())


def test_the_smallest_recipe_has_defaults() -> None:
    recipe = load().recipe
    assert (recipe.agent.ref, recipe.backend.ref, recipe.trainer, recipe.eval) == ("chat", "auto", None, None)
    assert (recipe.loop.iterations, recipe.loop.group_size, recipe.scoring.on_error) == (1, 4, "drop")
    assert [r.name for r in recipe.rewards] == ["numeric"] and recipe.rewards[0].weight == 1.0


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("2e-4", 2e-4),
        ("1e5", 1e5),
        (".5", 0.5),
        ("1.", 1.0),
        ("-3", -3),
        ("on", "on"),
        ("no", "no"),
        ("True", True),
        ("2026-11-22", "2026-11-22"),
        ("~", None),
        ("'3'", "3"),
        ("[1, a]", [1, "a"]),
    ],
)
def test_values_mean_what_they_look_like(written: str, value: Any) -> None:
    trainer = load(f"trainer: {{sft: {{x: {written}}}}}\n").recipe.trainer
    assert trainer and trainer.settings == {"x": value} and type(trainer.settings["x"]) is type(value)


def test_rewards_have_a_weight_a_label_and_a_timeout_beside_their_settings() -> None:
    text = BASE.replace(
        "[numeric]",
        "\n  - numeric\n  - length: {max_words: 5, weight: 0.1, label: short, timeout: 2}\n  - ./p.py:polite",
    )
    rewards = parse_recipe(text, [], source="r", folder=Path()).recipe.rewards
    assert [(r.ref, r.name, r.weight, r.timeout) for r in rewards] == [
        ("numeric", "numeric", 1.0, None),
        ("length", "short", 0.1, 2.0),
        ("./p.py:polite", "polite", 1.0, None),
    ]
    assert rewards[1].settings == {"max_words": 5}


def test_overrides() -> None:
    loaded = load(
        "agent: math\ntrainer: {sft: {lora_rank: 8}}\n",
        "loop.iterations=3",
        "agent.math.max_turns=2",
        "trainer.sft.learning_rate=1e-5",
        "rewards.numeric.weight=0.5",
        "rewards[0].numeric.relative=0.001",
        "sampling.stop=[a, b]",
        "eval={holdout: 2}",
        "model=other=one",
    )
    recipe = loaded.recipe
    assert recipe.loop.iterations == 3 and recipe.model == "other=one"
    assert (recipe.agent.ref, recipe.agent.settings) == ("math", {"max_turns": 2})
    assert recipe.trainer and recipe.trainer.settings == {"lora_rank": 8, "learning_rate": 1e-5}
    assert recipe.rewards[0].weight == 0.5 and recipe.rewards[0].settings == {"relative": 0.001}
    assert recipe.sampling.stop == ["a", "b"] and recipe.eval and recipe.eval.holdout == 2
    assert loaded.places["loop", "iterations"] == "command line"


def test_the_environment_is_read_but_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOLDER", "here")
    monkeypatch.delenv("NOWHERE", raising=False)
    loaded = load("runs: ${FOLDER}/${NOWHERE:-there}\nagent: {chat: {system: '${FOLDER}'}}\n")
    assert loaded.recipe.runs == "here/there" and loaded.recipe.agent.settings == {"system": "here"}
    assert loaded.raw["runs"] == "${FOLDER}/${NOWHERE:-there}"
    assert load("sampling: {top_k: '${NOWHERE:-}'}\n").recipe.sampling.top_k is None
    monkeypatch.setenv("EMPTY", "")
    assert load("runs: ${EMPTY:-there}\n").recipe.runs == "there"
    with pytest.raises(RecipeError, match=r"line 4, column 1, runs: the environment has no variable 'NOWHERE'"):
        load("runs: ${NOWHERE}\n")


def test_rows_to_validate_on_may_be_a_number_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    def validation(given: str) -> Any:
        monkeypatch.setenv("VAL_DATA", given)
        text = "model: m\ntrainer: sft\ndata: {path: r.jsonl, validation: '${VAL_DATA:-}'}\n"
        data = parse_recipe(text, [], source="r.yaml", folder=Path()).recipe.data
        return data and data.validation

    assert (validation("0.3"), validation("20"), validation("")) == (0.3, 20, None)
    assert validation("2.jsonl").path == "2.jsonl"
    with pytest.raises(RecipeError, match=r"data\.validation: Input should be greater than 0"):
        validation("-1")


def test_launch_is_filled_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = {"N_GPUS": "8", "NNODES": "2", "NODE_RANK": "1", "MASTER_ADDR": "10.0.0.1", "MASTER_PORT": "3000"}
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    launch = load("launch: {gpus: 4}\n").recipe.launch
    assert (launch.gpus, launch.nodes, launch.node_rank) == (4, 2, 1), "what the recipe says goes before"
    assert (launch.main_address, launch.main_port) == ("10.0.0.1", 3000)
    write_recipe(tmp_path, "http://127.0.0.1:9/v1")
    rows = guerdon(tmp_path, "explain", "recipe.yaml", "--json").json
    assert {row["from"] for row in rows if row["key"] == "launch.gpus"} == {"environment, N_GPUS"}
    monkeypatch.setenv("N_GPUS", "many")
    with pytest.raises(RecipeError, match=r"^environment, N_GPUS, launch\.gpus: Input should be a valid integer"):
        load()


def test_what_may_be_one_thing_or_another_is_told_as_one() -> None:
    data = "model: m\ntrainer: sft\ndata: {path: r.jsonl, validation: %s}\n"

    def said(validation: str) -> str:
        with pytest.raises(RecipeError) as raised:
            parse_recipe(data % validation, [], source="r.yaml", folder=Path())
        return str(raised.value)

    assert said("{pth: v}") == "r.yaml, line 3, column 36, data.validation.pth: unknown key 'pth'. Did you mean 'path'?"
    assert said("0").startswith(
        "r.yaml, line 3, column 23, data.validation: Input should be greater than 0 (got 0); or "
    )
    assert said("{mix: []}").endswith("data.validation.mix: leave it out here")


def test_several_mistakes_are_told_at_once() -> None:
    with pytest.raises(RecipeError) as raised:
        load("loop: {iterations: -1, group: 2}\nscoring: {on_error: ignore}\n")
    lines = str(raised.value).splitlines()
    assert len(lines) == 3
    assert "loop.iterations: Input should be greater than or equal to 0 (got -1)" in lines[0]
    assert "loop.group: unknown key 'group'. Did you mean 'group_size'?" in lines[1]
    assert "scoring.on_error: Input should be 'drop', 'zero', 'retry' or 'abort' (got 'ignore')" in lines[2]


def test_relative_paths_start_from_the_recipes_folder(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "r.yaml").write_text(BASE + "agent: ./a.py:agent\n")
    (tmp_path / "deep" / "t.jsonl").write_text('{"prompt": "p"}\n')
    (tmp_path / "deep" / "a.py").write_text("async def agent(task, policy): return ''\n")
    assert read_recipe(tmp_path / "deep" / "r.yaml").folder == tmp_path.resolve() / "deep"
    assert "The recipe is right." in guerdon(tmp_path, "check", "deep/r.yaml").out


def test_keys_are_written_with_dots() -> None:
    assert dotted(("rewards", 1, "numeric", "relative")) == "rewards[1].numeric.relative"
    assert dotted(()) == ""


def test_check_says_what_will_run(tmp_path: Path) -> None:
    write_recipe(tmp_path, "http://127.0.0.1:9/v1", eval={"holdout": 1})
    told = guerdon(tmp_path, "check", "recipe.yaml", "--json").json
    assert told["ok"] is True and told["agent"].startswith("chat (guerdon ")
    assert told["tasks"] == "3 tasks (prompt = question, answer = answer)" and told["eval"].startswith("1 task ")
    assert not (tmp_path / "runs").exists()


def test_explain_says_where_each_value_comes_from(tmp_path: Path) -> None:
    write_recipe(tmp_path, "http://127.0.0.1:9/v1")
    rows = guerdon(tmp_path, "explain", "recipe.yaml", "seed=7", "--json").json
    origin = {row["key"]: (row["value"], row["from"]) for row in rows}
    assert origin["seed"] == (7, "command line")
    assert origin["model"] == ("fake", "recipe.yaml, line 1, column 1")
    assert origin["loop.iterations"] == (1, "default")
    assert origin["backend.openai.retries"][0] == 0 and origin["backend.openai.retries"][1].startswith("recipe.yaml, l")
    assert origin["backend.openai.token_ids"] == (False, "default")
    assert origin["rewards[0].numeric.weight"] == (1.0, "default")
    assert "seed" in guerdon(tmp_path, "explain", "recipe.yaml").out


def test_explain_follows_short_forms_parts_and_old_names(tmp_path: Path) -> None:
    pytest.importorskip("datasets")
    (tmp_path / "r.jsonl").write_text('{"prompt": "q", "response": "a"}\n' * 3)
    (tmp_path / "r.yaml").write_text("model: m\ndata: r.jsonl\ntrainer: {sft: {num_train_epochs: 2}}\n")
    told = guerdon(tmp_path, "explain", "r.yaml", "data.validation.path=r.jsonl", "--json").json
    origin = {row["key"]: (row["value"], row["from"]) for row in told}
    assert origin["trainer.sft.epochs"] == (2.0, "r.yaml, line 3, column 17")
    assert origin["data.path"] == ("r.jsonl", "r.yaml, line 2, column 1")
    assert origin["data.validation.path"] == ("r.jsonl", "command line")
    told = guerdon(tmp_path, "explain", "r.yaml", "data={mix: [{path: r.jsonl, weight: 2}]}", "--json").json
    assert {row["key"]: row["value"] for row in told}["data.mix[0].weight"] == 2.0


def test_the_schema_knows_the_components(tmp_path: Path) -> None:
    schema = guerdon(tmp_path, "schema").json
    text = json.dumps(schema)
    assert schema["$schema"].endswith("2020-12/schema") and schema["additionalProperties"] is False
    for word in ("max_words", "max_turns", "base_url", "group_size", "on_error", "xml_format"):
        assert f'"{word}"' in text
    jsonschema = pytest.importorskip("jsonschema")
    recipe: dict[str, Any] = {
        "model": "m",
        "tasks": {"path": "t"},
        "rewards": ["numeric", {"length": {"max_words": 3}}],
    }
    jsonschema.validate(recipe, schema)
    jsonschema.validate({"model": "m", "data": "rows.jsonl", "trainer": "sft"}, schema)
    for wrong in ({"rewards": ["numerik"]}, {"rewards": [{"length": {"max_word": 3}}]}, {"rewardz": []}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({**recipe, **wrong}, schema)


def test_packaged_recipes_run_by_name(tmp_path: Path) -> None:
    names = [row["name"] for row in guerdon(tmp_path, "recipes", "--json").json]
    for name in names:
        assert guerdon(tmp_path, "recipes", name).out.startswith("#")
        assert "model: " in guerdon(tmp_path, "recipes", name).out
    said = guerdon(tmp_path, "recipes", "quickstrat", code=1).err
    assert "there is no packaged recipe 'quickstrat'." in said
    if "quickstart" in names:
        assert "Did you mean 'quickstart'?" in said
        assert "The recipe is right." in guerdon(tmp_path, "check", "quickstart").out
