"""The report of a run as one HTML file: what is in it, that nothing in it runs, and that it opens in a browser."""

import io
import json
import re
import shutil
import subprocess
import time
import tracemalloc
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import chat_server
import pytest
from command import BACKEND, guerdon, write_recipe
from rich.console import Console

from guerdon.html.chart import Point, Scale, histogram, lines
from guerdon.html.conversation import LONGEST, cut
from guerdon.html.markup import VOID, Markup, h
from guerdon.html.page import page
from guerdon.report import Meter, Report, compare
from guerdon.store import Run, list_runs
from guerdon.summary import RunningMeans, figures
from guerdon.trajectory import Failure, Score, Trajectory, Turn

OWN = "document.title='owned'"
HOSTILE = f'</script><script>{OWN}</script><img src=x onerror="{OWN}"></div>\x1b[2J\ud800'
PARTS = (
    BACKEND
    + """\
def trainer(job):
    for step in (1, 2, 3):
        job.log(step, 3, {"loss": 2.0 / step, "learning_rate": 1e-4, "gpu_memory": 3.0})
    job.output.mkdir()

def odd(completion):
    "With a reason that is no better than the completion."
    return (0.0, completion)
"""
)


def answer(body: dict[str, Any]) -> Any:
    """Adds some after a training, calls a tool for none; one server error, and markup from the model."""
    a, b = map(int, re.findall(r"\d+", body["messages"][-1]["content"])[:2])
    if a == 4:
        return chat_server.Reply(status=400, body='{"error": {"message": "<b>no</b>"}}')
    known = a % 2 or body["model"] != "fake"
    return f"### {a + b if known else 0} ###\n{HOSTILE if a == 3 else ''}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A run with a training, and evaluations before and after."""
    folder = tmp_path_factory.mktemp("report")
    (folder / "parts.py").write_text(PARTS)
    rows = [{"question": f"What is {i} + 1? {HOSTILE if i == 3 else ''}", "answer": str(i + 1)} for i in range(1, 13)]
    with chat_server.serve(answer) as server:
        write_recipe(
            folder,
            server.base_url,
            rows,
            model="fake",
            backend={"./parts.py:backend": {"base_url": server.base_url}},
            trainer="./parts.py:trainer",
            rewards=["numeric", {"./parts.py:odd": {"label": "<i>odd</i>", "weight": 0.5}}],
            loop={"group_size": 2},
            eval={"holdout": 6},
        )
        guerdon(folder, "run", "recipe.yaml")
    yield folder


@pytest.fixture(scope="module")
def text(folder: Path) -> str:
    """The page of that run, as the command writes it."""
    said = guerdon(folder, "report", "last").out.strip()
    assert said.endswith("/report.html")
    return (folder / said).read_text("utf-8")


class Tree(HTMLParser):
    """Elements with their attributes; tags that are left open are errors."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.texts: Counter[str] = Counter()
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts[data.strip()] += 1

    def all(self, tag: str, **wanted: str) -> list[dict[str, str | None]]:
        return [
            found
            for name, found in self.elements
            if name == tag and all(value in (found.get(k) or "") for k, value in wanted.items())
        ]


def test_parts_of_the_page(text: str) -> None:
    tree = Tree(text)
    ids = [found["id"] for found in tree.all("section")]
    parts = "before-and-after rewards training lengths-and-failures time best-and-worst most-changed rollouts recipe"
    assert set(parts.split()) <= set(ids)
    headings = [re.sub("<.*?>", "", found) for found in re.findall(r"<figcaption>(.*?)</figcaption>", text)]
    assert {"Mean reward", "reward", "numeric", "loss", "learning_rate", "gpu_memory", "Failed rollouts"} <= {*headings}
    assert tree.texts["before"] >= 2 and tree.texts["after"] >= 2
    assert tree.texts["guerdon"] == 0 and "guerdon 0." in text
    assert re.search(r"<pre><code>model: fake\n", text)
    assert len(tree.all("details", **{"data-stage": "training 1"})) == 12


def test_nothing_from_outside_and_nothing_foreign_runs(text: str) -> None:
    tree = Tree(text)
    names = {name for _, found in tree.elements for name in found}
    assert not [name for name in names if name.startswith("on") or name in ("style", "src", "href", "action")]
    assert len(tree.all("script")) == len(tree.all("style")) == 1 and "url(" not in text and "@import" not in text
    assert not tree.all("img") and not tree.all("iframe") and not tree.all("a")
    policy = next(found["content"] for found in tree.all("meta") if found.get("http-equiv"))
    assert policy and policy.startswith("default-src 'none'") and "unsafe" not in policy
    assert tree.texts["<i>odd</i>"] >= 2  # a reward's name
    assert "\x1b" not in text and "�" in text


def test_a_text_is_always_escaped() -> None:
    assert h("b", HOSTILE[:17], title='"x"') == '<b title="&quot;x&quot;">&lt;/script&gt;&lt;script&gt;</b>'
    assert h("p", [None, ["a", Markup("<br>")]], hidden=False, data_x=1) == '<p data-x="1">a<br></p>'
    assert h("p", "a\r\nb\x00\t\ud83d") == "<p>a\nb�\t?</p>"


def test_a_secret_of_the_recipe_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "parts.py").write_text(PARTS.replace("base_url: str", 'base_url: str, api_key: str = ""'))
    with chat_server.serve() as server:
        backend = {"./parts.py:backend": {"base_url": server.base_url, "api_key": "sk-1234567"}}
        write_recipe(tmp_path, server.base_url, backend=backend)
        guerdon(tmp_path, "run", "recipe.yaml")
    guerdon(tmp_path, "report", "last", "--output", "r.html")
    text = (tmp_path / "r.html").read_text("utf-8")
    assert "sk-1234567" not in text and "api_key: (left out)" in text


def test_where_to(folder: Path, tmp_path: Path) -> None:
    said = guerdon(folder, "report", "last", "--output", str(tmp_path / "a b.html"))
    assert said.out.strip() == str(tmp_path / "a b.html") and (tmp_path / "a b.html").stat().st_size > 20_000
    refused = guerdon(folder, "report", "last", "--output", str(tmp_path / "none" / "r.html"), code=1)
    assert "Choose another file with --output" in refused.err
    assert "there is no run 'nine'" in guerdon(folder, "report", "nine", code=1).err


def test_a_run_that_was_stopped(folder: Path, tmp_path: Path) -> None:
    """What there is: of a run in its first stage, and of one that has nothing yet."""
    copy = tmp_path / "stopped"
    shutil.copytree(list_runs(folder / "runs")[-1], copy)
    run = Run(copy)
    run._db.execute("delete from stages")
    run._db.execute("delete from trajectories where phase != 'train'")
    run._db.commit()
    half = page(run)
    assert "not finished" in half and "There is no evaluation yet" in half and 'id="rewards"' in half
    run._db.execute("delete from trajectories")
    run._db.execute("delete from metrics")
    run._db.commit()
    nothing = page(run)
    Tree(nothing)
    assert 'id="recipe"' in nothing and 'id="rewards"' not in nothing
    with run.executing():
        assert "still going" in page(run)
    run.close()


def trajectory(i: int, iteration: int, phase: str = "train", *, failed: bool = False) -> Trajectory:
    """A long one, with token ids."""
    call = {"id": f"c{i}", "type": "function", "function": {"name": "calculate", "arguments": f'{{"e": "{i} + 1"}}'}}
    ids = tuple(range(200))
    turns = (
        Turn(
            0,
            ({"role": "user", "content": f"What is {i} + 1? {'Think well. ' * 60}"},),
            {"role": "assistant", "content": "Let me see. " * 40, "tool_calls": [call]},
            "tool_calls",
            ids,
            ids,
            tuple(-0.5 for _ in ids),
            200,
            200,
            1.5,
        ),
        Turn(2, ({"role": "tool", "tool_call_id": f"c{i}", "content": "5"},), {"role": "assistant", "content": "5"}),
    )
    t = Trajectory(f"{phase}-{iteration}-{i}-0", str(i), phase, iteration, 0, "tool", "fake", turns, completion="5")
    if failed:
        return replace(t, turns=turns[:1], completion=None, failure=Failure("timeout", "late"))
    return t.scored({"numeric": Score(float(i % 3 == 0)), "length": Score(0.5, 0.5, "40 words")})


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """2,000 trajectories in five iterations, with evaluations between them."""
    info = {"name": "large", "recipe": "large.yaml", "folder": "", "stage": "", "seed": 0, "versions": {"guerdon": "0"}}
    run = Run.create(tmp_path_factory.mktemp("large"), "large", "model: fake\nrewards: [numeric, length]\n", info)
    for i in range(5):
        held = [trajectory(k, i, "eval") for k in range(100)]
        run.add(held)
        name = f"iteration-{i}" if i else "before"
        run.finish_stage(f"eval-{name}", {**figures(held), "policy": i, "seconds": {"eval": 9.0}})
        if i < 4:
            run.add([trajectory(k, i + 1, failed=k % 50 == 7) for k in range(375)])
            run.finish_stage(f"rollout-{i + 1}", {"seconds": {"serve": 3.0, "rollout": 70.0, "score": 2.0}})
            run.finish_stage(f"train-iteration-{i + 1}", {"rows": 9, "seconds": {"train": 50.0, "swap": 0.5}})
    run.finish_stage("best", {"checkpoint": "iteration-3"})
    run.finish_stage("eval-after", {**(run.stage("eval-iteration-3") or {}), "same_as": "iteration-3", "seconds": {}})
    run.finish_stage("finished", {})
    yield run
    run.close()


def test_a_long_run_is_read_one_by_one(tmp_path: Path) -> None:
    run = Run.create(tmp_path, "long", "model: fake\n", {"seed": 0, "compares": []})
    for i in range(100):
        turn = Turn(0, (), {"role": "assistant", "content": "long " * 40_000})
        run.add([Trajectory(f"train-1-{i}-0", str(i), "train", 1, 0, "chat", "fake", (turn,), completion="")])
    tracemalloc.start()
    try:
        assert "100" in page(run)
        assert tracemalloc.get_traced_memory()[1] < 8_000_000, "of 20"
    finally:
        tracemalloc.stop()
        run.close()


def test_a_large_run_is_a_small_file(large: Run) -> None:
    started = time.process_time()
    text = page(large)
    assert time.process_time() - started < 4  # 0.9 s where nothing else runs
    tree = Tree(text)
    assert 200_000 < len(text.encode()) < 2_000_000
    listed = Counter(found["data-stage"] for found in tree.all("details") if "data-stage" in found)
    assert sum(listed.values()) == 200 and set(listed) >= {"training 1", "training 4", "evaluation iteration-3"}
    assert len({*listed.values()}) <= 2  # an even share of each
    outcomes = Counter(found["data-outcome"] for found in tree.all("details") if "data-outcome" in found)
    assert outcomes["failed: timeout"] >= 20 and outcomes["reward above 0"] > 50


def test_evaluations_between_iterations(large: Run) -> None:
    text = page(large)
    table = text[text.index('id="evaluations"') :].partition("</table>")[0]
    names = re.findall(r"<tr><th>([^<]+)", table)
    assert names == ["before", "iteration-1", "iteration-2", "iteration-3", "iteration-4"]
    assert re.search(r"<th>iteration-3<small class=\"tag\">best", table)
    time = text[text.index('id="time"') :].partition("</section>")[0]
    assert re.findall(r'class="row">([^<]+)', time) == ["evaluate before", *(f"iteration {i}" for i in range(1, 5))]
    assert [*re.findall(r"</i>([^<]+)", time)] == ["serve", "swap", "roll out", "score", "train", "evaluate"]


def test_a_long_message_is_cut_in_the_middle() -> None:
    text = cut("a" * 9000 + "b")
    assert len(text) < LONGEST + 60 and text.endswith("b") and "5,001 characters left out" in text


def test_charts() -> None:
    points = [Point(1, 0.2), Point(2, float("nan")), Point(3, 0.1)]
    drawn = lines("loss", [points, [Point(4, 0.05, note="<b>")]], x="step")
    assert drawn.count("<polyline") == 1 and "&lt;b&gt;" in drawn and "nan" not in drawn
    assert lines("none", [[]], x="step") == "" == histogram("none", {"a": []}, x="tokens")
    assert Scale(0.11, 0.97, 0, 1, nice=True).ticks() == pytest.approx([0, 0.25, 0.5, 0.75, 1.0])
    assert Scale(3, 3, 0, 1, nice=True)(3) == pytest.approx(0.5, abs=0.3)
    shares = [float(s) for s in re.findall(r": (\d+)%", histogram("n", {"x": [1, 2, 2, 9]}, x="tokens"))]
    assert sorted(shares) == [25, 25, 50]


# -- in a browser -----------------------------------------------------------------------------------------------------


CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)


@pytest.mark.skipif(not CHROMIUM, reason="no chromium is installed")
def test_in_a_browser(text: str, tmp_path: Path) -> None:
    """It opens without an error or a broken policy, its filter is there, and nothing of the model's has run."""
    dom, complaints = opened(text, tmp_path)
    assert complaints == []
    assert 'data-ready="yes"' in dom and '<form id="filter">' in dom
    assert re.search(r"<title>\S+-recipe: guerdon</title>", dom)


@pytest.mark.skipif(not CHROMIUM, reason="no chromium is installed")
def test_a_script_that_gets_in_is_not_run(text: str, tmp_path: Path) -> None:
    dom, complaints = opened(text.replace("</h1>", f"</h1><script>{OWN}</script>"), tmp_path)
    assert "<title>owned" not in dom and "Content Security Policy" in " ".join(complaints)


@pytest.mark.skipif(not CHROMIUM, reason="no chromium is installed")
def test_the_filter(text: str, tmp_path: Path) -> None:
    act = """
    form = document.getElementById("filter"); form.elements.stage.value = "training 1";
    form.elements.words.value = "WHAT is"; form.dispatchEvent(new Event("input"))"""
    free = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", text)
    dom, complaints = opened(free.replace("</body>", f"<script>{act}</script></body>"), tmp_path)
    assert complaints == []
    shown = re.findall(r'<details class="one" data-stage="([^"]+)" data-outcome="[^"]+">', dom)
    assert shown == ["training 1"] * 12 and "<output>12 of 24</output>" in dom


def opened(text: str, folder: Path) -> tuple[str, list[str]]:
    """What a browser makes of a page, and what it complains of."""
    file = folder / "report.html"
    file.write_text(text, "utf-8")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", f"--user-data-dir={folder}/user"]
    command = [CHROMIUM or "", *flags, "--dump-dom", file.as_uri()]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=120)
    return ran.stdout, [line for line in ran.stderr.splitlines() if "CONSOLE" in line]


# -- in the console ---------------------------------------------------------------------------------------------------


def said_by(act: Any, **console: Any) -> str:
    out = io.StringIO()
    report = Report(Console(file=out, width=160, highlight=False, **console))
    act(report)
    return out.getvalue()


def test_two_evaluations_side_by_side_and_more_in_rows(large: Run) -> None:
    from guerdon.summary import summarise

    evaluations = summarise(large)["eval"]
    rows = said_by(lambda report: compare(report, evaluations))
    assert re.search(r"iteration-3 +0\.\d+ \[.*best", rows) and rows.count("best") == 1
    assert not re.search(r"^after", rows, re.M) and "iteration-3 - before" in rows
    two = {name: evaluations[name] for name in ("before", "iteration-1")}
    assert "before and iteration-1" in said_by(lambda report: compare(report, two))


def test_running_means() -> None:
    means = RunningMeans([trajectory(3, 1)])
    for i in range(3):
        means.add(trajectory(i, 1))
    means.add(trajectory(9, 1, failed=True))
    shown = str(means)
    assert "reward 0.75 ±0.50  numeric 0.50 ±0.50  length 0.50 ±0.00" in shown
    assert "failed 1 (timeout 1)" in shown and "tokens/s" in shown
    assert str(RunningMeans()) == "reward -"


def test_running_means_are_cheap() -> None:
    means, one = RunningMeans(), trajectory(3, 1)
    started = time.process_time()
    for _ in range(20_000):
        means.add(one)
    assert (time.process_time() - started) / 20_000 < 50e-6  # 2,000 rollouts a second take a tenth of a CPU at most


def test_progress_in_a_log_is_a_line_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("guerdon.report.LINE_SECONDS", 0.0)

    def act(report: Report) -> None:
        with report.stage("rollouts", 8) as meter:
            meter.counts = lambda: {"running": 3, "queued": 2, "workers": 1, "failed": 1}
            meter.done = 2
            meter.step("reward 0.50")

    line = said_by(act)
    assert re.fullmatch(r"  rollouts 3/8  0:00(, 0:00 left)?  3 running, 2 queued  reward 0.50\n", line)


def test_progress_on_a_terminal_is_a_few_lines_that_go() -> None:
    def act(report: Report) -> None:
        with report.stage("rollouts", 8) as meter:
            meter.counts = lambda: {"running": 3}
            meter.step(RunningMeans([trajectory(3, 1)]))
            time.sleep(0.4)

    shown = said_by(act, force_terminal=True, color_system=None)
    assert "1/8" in shown and "3 running" in shown and "reward 1.25" in shown
    assert shown.rstrip().endswith("\x1b[2K")  # wiped


def test_time_left() -> None:
    meter = Meter("rollouts", 100)
    meter.done = 50  # stored by an earlier run
    assert meter.left is None
    meter._started -= 10.0
    for _ in range(10):
        meter.step()
    assert meter.left == pytest.approx(40.0, rel=0.05)
    assert json.dumps(meter.times()) == '"0:10, 0:40 left"'
