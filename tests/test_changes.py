"""A run that goes on with other settings than it began with."""

from pathlib import Path

import yaml
from chat_server import serve
from command import BACKEND, guerdon, last_run, write_recipe

TRAINER = """\
def trainer(job, *, fits: bool = False):
    if not fits:
        raise RuntimeError("CUDA out of memory")
    job.output.mkdir()
    (job.output / "adapter.txt").write_text("trained")
"""


def test_a_training_that_failed_goes_on_with_other_settings(tmp_path: Path) -> None:
    (tmp_path / "parts.py").write_text(BACKEND + TRAINER)
    with serve() as server:
        backend = {"./parts.py:backend": {"base_url": server.base_url}}
        write_recipe(tmp_path, server.base_url, backend=backend, trainer={"./parts.py:trainer": {"fits": False}})
        assert "--resume" in guerdon(tmp_path, "run", "recipe.yaml", code=1).err
        asked = len(server.requests)
        assert "out of memory" in guerdon(tmp_path, "run", "--resume", code=1).err
        for change, words in (
            ("sampling.temperature=0.5", "sampling.temperature=0.5: a run that goes on can change trainer, backend, "),
            ("trainer={./parts.py:trainer: {fist: true}}", "Did you mean 'fits'"),
        ):
            assert words in guerdon(tmp_path, "run", "--resume", "last", change, code=1).err
        said = guerdon(tmp_path, "run", "--resume", "trainer={./parts.py:trainer: {fits: true}}").out
        assert "changed from here on: trainer=" in said and len(server.requests) == asked
    with last_run(tmp_path) as run:
        assert run.stage("finished") is not None
        assert yaml.safe_load((run.folder / "recipe.yaml").read_text())["trainer"] == {
            "./parts.py:trainer": {"fits": True}
        }


def test_another_recipe_is_none_to_go_on_with(tmp_path: Path) -> None:
    write_recipe(tmp_path, "http://127.0.0.1:9/v1")
    assert "give no other, only what" in guerdon(tmp_path, "run", "recipe.yaml", "--resume", "last", code=2).err


STOPS = """\
def trainer(job, *, fits: bool = False):
    job.work.mkdir(exist_ok=True)
    (job.work / "checkpoint-1").mkdir(exist_ok=True)
    if not fits:
        raise RuntimeError("CUDA out of memory")
    job.output.mkdir()
    (job.output / "adapter.txt").write_text(job.rows.read_text())
"""


def test_a_training_goes_on_with_the_rows_that_it_began_with(tmp_path: Path) -> None:
    (tmp_path / "parts.py").write_text(BACKEND + STOPS)
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"prompt": "a", "response": "b"}\n')
    recipe = {"model": "fake", "data": "rows.jsonl", "trainer": {"./parts.py:trainer": {}}}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    assert "out of memory" in guerdon(tmp_path, "run", "recipe.yaml", code=1).err
    began = rows.read_text()
    rows.write_text(began + '{"prompt": "c", "response": "d"}\n')
    fits = "trainer={./parts.py:trainer: {fits: true}}"
    assert (
        "the rows of `data` are not those that the training" in guerdon(tmp_path, "run", "--resume", fits, code=1).err
    )
    rows.write_text(began)
    guerdon(tmp_path, "run", "--resume")
    with last_run(tmp_path) as run:
        assert (run.folder / "checkpoints" / "data" / "adapter.txt").read_text().count("\n") == 1
        assert not list(run.folder.rglob("*.new"))


SHAPED = """\
def trainer(job, *, lora_rank: int = 8, fits: bool = False, early: bool = True):
    if not early:
        (job.work / "checkpoint-1").mkdir(parents=True, exist_ok=True)
    if not fits:
        raise RuntimeError("CUDA out of memory")
    job.output.mkdir()
    (job.output / "adapter.txt").write_text(str(lora_rank))
"""


def test_an_adapter_that_was_begun_keeps_its_shape(tmp_path: Path) -> None:
    (tmp_path / "parts.py").write_text(BACKEND + SHAPED)
    (tmp_path / "rows.jsonl").write_text('{"prompt": "a", "response": "b"}\n')
    recipe = {"model": "fake", "data": "rows.jsonl", "trainer": {"./parts.py:trainer": {}}}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))

    def goes_on(code: int = 0, **settings: object) -> str:
        change = (
            f"trainer={yaml.safe_dump({'./parts.py:trainer': settings}, default_flow_style=True, width=999).strip()}"
        )
        return guerdon(tmp_path, "run", "--resume", change, code=code).err

    assert "out of memory" in guerdon(tmp_path, "run", "recipe.yaml", code=1).err
    assert "out of memory" in goes_on(1, lora_rank=4, early=False)  # there is no checkpoint yet
    said = goes_on(1, lora_rank=2, early=False)
    assert "lora_rank: 2: this run goes on from checkpoints/data-steps/checkpoint-1, which was made with 4" in said
    assert "lora_rank: 8: " in goes_on(1, early=False)  # by default
    goes_on(lora_rank=4, fits=True)
    with last_run(tmp_path) as run:
        assert (run.folder / "checkpoints" / "data" / "adapter.txt").read_text() == "4"
