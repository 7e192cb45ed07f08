"""Discovery: what is installed is found, what is broken is named, and names lead to components."""

import inspect
import itertools
import json
import os
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest

import guerdon
from guerdon import hookspecs
from guerdon.errors import ComponentError
from guerdon.hookspecs import KINDS, Register
from guerdon.plugins import Plugins
from guerdon.registry import Registry, load, require_extra
from guerdon.settings import SettingError, validate
from guerdon.traits import traits

if TYPE_CHECKING:
    from conftest import Site

NUMBERS = itertools.count()
REWARD = """
import guerdon

@guerdon.hookimpl
def register_rewards(register):
    register("{name}", "{target}")
"""
TARGET = '''
def kind_words(completion: str, *, words: list[str] = ["please"], least: int = 1) -> float:
    """1.0 when enough kind words are in it.

    Args:
        words: The kind words.
        least: How many of them are enough.
    """
    return float(sum(w in completion for w in words) >= least)
'''


def reward(name: str, target: str = "kind:kind_words") -> str:
    return REWARD.format(name=name, target=target)


def plugin(**hooks: Callable[..., Any]) -> ModuleType:
    """A module with these functions as hooks."""
    module = ModuleType(f"toy_plugin_{next(NUMBERS)}")
    for name, function in hooks.items():
        function.__name__ = name
        setattr(module, name, guerdon.hookimpl(function))
    return module


def registering(*calls: tuple[Any, ...], **keywords: Any) -> ModuleType:
    def register_rewards(register: Any) -> None:
        for call in calls:
            register(*call, **keywords)

    return plugin(register_rewards=register_rewards)


def only(*modules: ModuleType) -> Plugins:
    return Plugins(*modules, entry_points=False)


@pytest.fixture
def here(site: "Site", monkeypatch: pytest.MonkeyPatch) -> Iterator["Site"]:
    """The toy distributions, for this process too."""
    monkeypatch.setenv("GUERDON_CACHE", str(site.home / "cache"))
    monkeypatch.syspath_prepend(str(site.folder))
    before = set(sys.modules)
    yield site
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(site.folder)):
            del sys.modules[name]


# -- what is found


def test_guerdons_own_components_come_through_entry_points_like_all_others(site: "Site") -> None:
    site.add("guerdon-toy", reward("kind"), version="2.5")
    rows = json.loads(site.guerdon("plugins", "list", "--json").stdout)
    assert {"kind": "reward", "name": "numeric", "package": "guerdon", "version": "0.1.0"}.items() <= next(
        row for row in rows if row["name"] == "numeric"
    ).items()
    assert [row for row in rows if row["package"] != "guerdon"] == [
        {
            "kind": "reward",
            "name": "kind",
            "package": "guerdon-toy",
            "version": "2.5",
            "target": "kind:kind_words",
        }
    ]
    table = site.guerdon("plugins").stdout
    assert re.search(r"^reward +kind +guerdon-toy +2\.5 +kind:kind_words$", table, re.M)


def test_listing_imports_no_component(site: "Site") -> None:
    site.add("guerdon-toy", reward("kind", "kind_that_explodes:f"), kind_that_explodes="raise RuntimeError")
    done = site.guerdon("plugins", "list")
    assert (done.returncode, done.stderr) == (0, "")
    assert "kind_that_explodes:f" in done.stdout


def test_a_function_can_be_registered_in_place_of_its_import_string() -> None:
    found = only(registering(("dump", json.dumps))).components
    assert [(c.name, c.target) for c in found] == [("dump", "json:dumps")]
    assert load(found[0]) is json.dumps


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_a_hook(kind: str) -> None:
    def hook(register: Any) -> None:
        register("toy", "json:dumps", extra="fancy", inline=True)

    plugins = only(plugin(**{f"register_{kind}": hook}))
    (found,) = plugins.components
    assert (found.kind, found.name, found.extra, found.inline) == (kind, "toy", "fancy", True)
    assert Registry(plugins).find(kind, "toy") == found


# -- what is broken


BROKEN = {
    "raises": ("raise RuntimeError('no luck')", "RuntimeError: no luck"),
    "import": ("import no_such_library", "ModuleNotFoundError: No module named 'no_such_library'"),
    "syntax": ("def f(:", "SyntaxError: invalid syntax"),
    "exit": ("import sys; sys.exit(3)", "SystemExit: 3"),
    "missing": (None, "ModuleNotFoundError: No module named 'guerdon_toy'"),
    "misspelt hook": (
        reward("kind").replace("register_rewards", "register_reward"),
        "unknown hook 'register_reward'",
    ),
    "wrong argument": (reward("kind").replace("(register)", "(registry)"), "registry"),
    "hook raises": (reward("kind").replace('register("kind"', 'register(1/0, "kind"'), "ZeroDivisionError"),
    "no target": (reward("kind", "kind_words"), "the target 'kind_words' is not of the form 'module:attribute'"),
    "twice": (reward("kind") + '    register("kind", "kind:other")\n', "rewards: the name 'kind' is registered twice"),
    "colon": (reward("a:b"), "rewards: the name 'a:b' holds a colon"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_plugin_is_named_and_blocks_nothing_else(site: "Site", case: str) -> None:
    code, why = BROKEN[case]
    file = site.add("guerdon-toy", code or "", version="0.3")
    if code is None:
        file.unlink()
    site.add("guerdon-good", reward("good"))
    done = site.guerdon("plugins", "list", "--json")
    assert done.returncode == 0
    assert {"good", "numeric"} <= {row["name"] for row in json.loads(done.stdout)}
    assert "kind" not in {row["name"] for row in json.loads(done.stdout)}
    warning = " ".join(done.stderr.split())
    assert warning.startswith("warning: plugin 'guerdon-toy' (from guerdon-toy 0.3) failed to load: ")
    assert why in warning
    assert "pip uninstall guerdon-toy, or switch it off with GUERDON_PLUGINS=-guerdon-toy" in warning
    assert "Traceback" not in warning

    quiet = site.guerdon("plugins", "list", "--json", GUERDON_PLUGINS="-guerdon-toy")
    assert (quiet.stdout, quiet.stderr) == (done.stdout, "")


def test_a_misspelt_hook_gets_its_near_miss() -> None:
    def register_reward(register: Any) -> None: ...

    (broken,) = only(plugin(register_reward=register_reward)).broken
    assert "Did you mean 'register_rewards'?" in broken.error


def test_a_name_that_is_missing_points_to_the_broken_plugin(here: "Site") -> None:
    here.add("guerdon-toy", "import no_such_library")
    with pytest.raises(ComponentError, match=r"(?s)no reward 'kind'.*'guerdon-toy'.*no_such_library"):
        Registry(Plugins()).find("rewards", "kind")


# -- GUERDON_PLUGINS


@pytest.mark.parametrize(
    ("wanted", "names"),
    [
        ("", {"numeric", "one", "two"}),
        ("-guerdon-one", {"numeric", "two"}),
        ("-entry-two", {"numeric", "one"}),
        ("-guerdon-one,-entry-two", {"numeric"}),
        ("guerdon-one", {"numeric", "one"}),
        ("entry-two, -guerdon-one", {"numeric", "two"}),
        ("-rewards", {"one", "two"}),
        ("-guerdon", {"numeric", "one", "two"}),
    ],
)
def test_what_is_switched_off_is_not_even_imported(here: "Site", wanted: str, names: set[str]) -> None:
    for n in ("one", "two"):
        here.add(f"guerdon-{n}", f"open({n!r}, 'w').close()\n" + reward(n), entry=f"entry-{n}")
    done = here.guerdon("plugins", "list", "--json", GUERDON_PLUGINS=wanted)
    assert {row["name"] for row in json.loads(done.stdout)} & {"numeric", "one", "two"} == names
    assert {p.name for p in here.home.iterdir()} - {"cache"} == names - {"numeric"}


# -- the index


@pytest.fixture
def counted(site: "Site") -> Callable[[], int]:
    """How often the toy plugin was imported since it was last asked."""
    log = site.home / "imported"
    code = f"open({str(log)!r}, 'a').write('x')\n" + reward("kind")
    site.add("guerdon-toy", code)

    def count() -> int:
        found = len(log.read_text()) if log.exists() else 0
        log.unlink(missing_ok=True)
        return found

    return count


def listed(site: "Site", **env: str) -> set[str]:
    # the home folder is on sys.path with -m, and the plugin writes there
    code = "import sys; sys.path.remove(''); from guerdon.cli import main; main()"
    done = site.python("-c", code, "plugins", "list", "--json", **env)
    assert (done.returncode, done.stderr) == (0, "")
    return {row["name"] for row in json.loads(done.stdout) if row["package"] != "guerdon"}


def test_a_second_listing_imports_no_plugin(site: "Site", counted: Callable[[], int]) -> None:
    assert listed(site) == {"kind"} and counted() == 1
    assert listed(site) == {"kind"} and counted() == 0


def test_the_index_follows_what_is_installed(site: "Site", counted: Callable[[], int]) -> None:
    assert listed(site) == {"kind"}
    added = site.add("guerdon-more", reward("more"))
    assert listed(site) == {"kind", "more"}
    assert listed(site) == {"kind", "more"}

    counted()
    added.write_text(reward("another"))
    assert listed(site) == {"kind", "another"} and counted() == 1

    (info,) = site.folder.glob("guerdon_more-*.dist-info")
    info.rename(site.folder / "guerdon_more-2.0.dist-info.gone")
    assert listed(site) == {"kind"}


def test_each_choice_of_plugins_has_its_own_index(site: "Site", counted: Callable[[], int]) -> None:
    assert listed(site) == {"kind"}
    assert listed(site, GUERDON_PLUGINS="-guerdon-toy") == set()
    assert listed(site) == {"kind"} and counted() == 1


def test_a_broken_plugin_is_looked_at_again(site: "Site") -> None:
    file = site.add("guerdon-toy", "import helper_of_toy")
    assert "helper_of_toy" in site.guerdon("plugins").stderr
    assert "helper_of_toy" in site.guerdon("plugins").stderr
    file.write_text(reward("kind"))
    assert listed(site) == {"kind"}


@pytest.mark.parametrize("damage", ["a file in its place", "read-only", "garbage", "other data"])
def test_a_cache_that_cannot_be_used_does_no_harm(site: "Site", counted: Callable[[], int], damage: str) -> None:
    assert listed(site) == {"kind"}
    cache = site.home / "cache"
    (index,) = cache.rglob("*.json")
    if damage == "garbage":
        index.write_text("{")
    elif damage == "other data":
        index.write_text('{"wanted": "", "path": [], "plugins": 3}')
    elif damage == "read-only":
        index.unlink()
        index.parent.chmod(0o500)
    else:
        index.unlink()
        index.parent.rmdir()
        cache.rmdir()
        cache.write_text("not a folder")
    counted()
    assert listed(site) == {"kind"} and counted() == 1
    if damage == "read-only":
        index.parent.chmod(0o700)


# -- from a name to a component


def test_two_plugins_with_one_name_are_told_apart_by_their_packages(here: "Site") -> None:
    here.add("guerdon-one", reward("same", "one_words:kind_words"), one_words=TARGET)
    here.add("guerdon-two", reward("same", "two_words:kind_words"), version="2.1", two_words=TARGET)
    registry = Registry(Plugins())
    with pytest.raises(ComponentError) as error:
        registry.find("rewards", "same")
    assert str(error.value) == (
        "reward 'same' is registered by guerdon-one 1.0 and guerdon-two 2.1: write guerdon-one:same or guerdon-two:same"
    )
    found = registry.find("rewards", "guerdon-two:same")
    assert (found.package, load(found).__module__) == ("guerdon-two", "two_words")


def test_two_entry_points_may_have_one_name(here: "Site") -> None:
    """`rewards` is what guerdon calls one of its own."""
    here.add("guerdon-one", reward("one"), entry="rewards")
    here.add("guerdon-two", reward("two"), entry="rewards")
    plugins = Plugins()
    assert {"one", "two", "numeric"} <= {c.name for c in plugins.components}
    plugins.hook.run_finished(run="r", summary={})  # registers them all


@pytest.mark.parametrize(
    ("ref", "message"),
    [
        ("numerik", "there is no reward 'numerik'. Did you mean 'numeric'?"),
        ("guerdon:numerik", "package 'guerdon' has no reward 'numerik'. Did you mean 'numeric'?"),
        ("./polite.py", "which function of the file? Write ./polite.py:NAME"),
        ("./police.py:polite", "there is no file "),
        ("polite:polite", "no module 'polite' is installed; for the file write ./polite.py:polite"),
    ],
)
def test_a_name_that_leads_nowhere(tmp_path: Path, ref: str, message: str) -> None:
    (tmp_path / "polite.py").write_text("def polite(completion): return 1.0\n")
    with pytest.raises(ComponentError, match=re.escape(message)):
        Registry(Plugins(), tmp_path).find("rewards", ref)


def test_a_function_in_a_file_needs_no_package(tmp_path: Path) -> None:
    file = tmp_path / "polite.py"
    file.write_text("def polite(completion): return 1.0\n")
    registry = Registry(only(), tmp_path)
    found = registry.find("rewards", "./polite.py:polite")
    assert load(found)("") == 1.0
    assert load(found) is load(registry.find("rewards", f"{file}:polite"))

    file.write_text("def polite(completion): return 0.25\n")
    os.utime(file, ns=(1, 1))
    assert load(found)("") == 0.25
    with pytest.raises(ComponentError, match=r"has no attribute 'polit'\. Did you mean 'polite'\?"):
        load(registry.find("rewards", "./polite.py:polit"))


def test_a_file_may_import_those_beside_it(tmp_path: Path) -> None:
    path = list(sys.path)
    for folder, score in (("one", 0.25), ("two", 0.5)):
        (tmp_path / folder / "beside_pack").mkdir(parents=True)
        (tmp_path / folder / "beside_pack" / "__init__.py").write_text(f"SCORE = {score}\n")
        (tmp_path / folder / "beside.py").write_text("from beside_pack import SCORE\n")
        (tmp_path / folder / "json.py").write_text("1 / 0\n")  # Python's own goes before it
        (tmp_path / folder / "r.py").write_text(
            "import json\nfrom beside import SCORE\ndef f(completion): return SCORE\n"
        )
        assert load(Registry(only(), tmp_path).find("rewards", f"./{folder}/r.py:f"))("") == score
    assert sys.path == path


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("import no_such_module", r"reward 'f' needs the module 'no_such_module', which is not installed$"),
        ("from json import no_such_name", r"reward 'f': cannot import '.*/r.py': cannot import name 'no_such_name'"),
    ],
)
def test_a_file_that_imports_what_is_not_there(tmp_path: Path, code: str, message: str) -> None:
    """No pip line: anybody may own the package of a module's name."""
    (tmp_path / "r.py").write_text(code + "\n")
    with pytest.raises(ComponentError, match=message) as error:
        load(Registry(only(), tmp_path).find("rewards", "./r.py:f"))
    assert "pip" not in str(error.value)


def test_an_attribute_of_a_module_needs_no_registration() -> None:
    registry = Registry(only())
    assert load(registry.find("rewards", "json:dumps")) is json.dumps
    with pytest.raises(ComponentError, match=r"cannot import 'no_such\.module'"):
        load(registry.find("rewards", "no_such.module:f"))


def test_an_error_in_the_components_own_module_is_shown_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "polite.py").write_text("1 / 0\n")
    with pytest.raises(ComponentError, match="ZeroDivisionError: division by zero"):
        load(Registry(only(), tmp_path).find("rewards", "./polite.py:polite"))


EXTRA = """Provides-Extra: fancy
Provides-Extra: base
Requires-Dist: click; extra == 'base'
Requires-Dist: guerdon-toy[base]; extra == 'fancy'
Requires-Dist: no-such-library>=2,<3; extra == "fancy"
"""


def test_a_missing_extra_says_what_to_install(here: "Site") -> None:
    code = reward("kind", "kind_with_extra:kind").replace('kind")', 'kind", extra="fancy")')
    here.add("guerdon-toy", code, metadata=EXTRA, kind_with_extra="import no_such_library")
    found = Registry(Plugins()).find("rewards", "kind")
    line = re.escape("pip install 'guerdon-toy[fancy]'")
    with pytest.raises(ComponentError, match=rf"reward 'kind' needs no-such-library, not installed: {line}") as error:
        require_extra(found)
    assert error.value.kind == "missing_extra"
    with pytest.raises(ComponentError, match=rf"needs the module 'no_such_library', which is not installed: {line}"):
        load(found)


def test_an_extra_that_is_there_says_nothing(here: "Site") -> None:
    code = reward("kind").replace('kind_words")', 'kind_words", extra="base")')
    here.add("guerdon-toy", code, metadata=EXTRA, kind=TARGET)
    found = Registry(Plugins()).find("rewards", "kind")
    require_extra(found)
    assert load(found)("please") == 1.0


# -- settings


def test_a_type_that_cannot_be_resolved_leaves_the_others_checked() -> None:
    def reward(completion: str, *, n: int = 3, odd: "OnlyForTypeCheckers" = None, words: "list[str]" = []) -> float:  # type: ignore[name-defined]  # noqa: F821, B006
        return 1.0

    assert validate("r", reward, {"n": "4", "odd": 5}) == {"n": 4, "odd": 5, "words": []}
    for wrong in ({"n": "abc"}, {"words": 3}):
        with pytest.raises(SettingError, match=next(iter(wrong))):
            validate("r", reward, wrong)


def test_settings_may_have_names_that_pydantic_uses_itself() -> None:
    def reward(completion: str, *, copy: int = 1, schema: str = "", model_config: int = 2, _x: int = 3) -> float:
        return 1.0

    values = {"copy": 4, "schema": "s", "model_config": 5, "_x": 6}
    assert validate("r", reward, values) == values
    with pytest.raises(SettingError, match=r"^r: copy: .*\(got 'many'\)$") as error:
        validate("r", reward, {"copy": "many"})
    assert error.value.path == ("copy",)


# -- hooks that many plugins hear


def test_hooks_are_heard_by_every_plugin_with_the_arguments_it_asks_for() -> None:
    heard: list[Any] = []

    def metrics_logged(step: int, metrics: dict[str, float]) -> None:
        heard.append((step, metrics))

    def run_finished(run: str) -> None:
        heard.append(run)

    def misspelt(run: str) -> None:
        heard.append("a broken plugin's")

    one = plugin(metrics_logged=metrics_logged)
    two = plugin(run_finished=run_finished)
    broken = plugin(run_finished=misspelt, run_finnished=lambda run: None)
    plugins = only(one, two, broken)
    assert [p.module for p in plugins.broken] == [broken.__name__]
    plugins.hook.metrics_logged(run="r", stage="train-warmup", step=3, metrics={"loss": 0.5})
    plugins.hook.run_finished(run="r", summary={})
    assert heard == [(3, {"loss": 0.5}), "r"]


def test_every_hook_and_trait_is_in_the_reference() -> None:
    reference = (Path(__file__).parent.parent / "docs" / "reference" / "hooks.md").read_text()
    hooks = {n: f for n, f in vars(hookspecs).items() if hasattr(f, "guerdon_spec")}
    expected = [f"{name}({', '.join(inspect.signature(f).parameters)})" for name, f in hooks.items()]
    assert re.findall(r"^### (.+)$", reference, re.M) == expected
    for name in inspect.signature(Register.__call__).parameters:
        assert name == "self" or f"`{name}" in reference
    for name in inspect.signature(traits).parameters:
        assert f"\n| `{name}` |" in reference


# -- the command line


def test_show_tells_settings_types_defaults_and_origin(site: "Site") -> None:
    site.add("guerdon-toy", reward("kind"), kind=TARGET)
    for name in ("kind", "guerdon-toy:kind", "reward:kind"):
        (card,) = json.loads(site.guerdon("plugins", "show", name, "--json").stdout)
        assert card == {
            "kind": "reward",
            "name": "kind",
            "package": "guerdon-toy",
            "version": "1.0",
            "target": "kind:kind_words",
            "extra": "",
            "about": "1.0 when enough kind words are in it.",
            "asks_for": ["completion"],
            "settings": [
                {"name": "words", "type": "list[str]", "default": ["please"], "help": "The kind words."},
                {"name": "least", "type": "int", "default": 1, "help": "How many of them are enough."},
            ],
        }
    text = site.guerdon("plugins", "show", "kind").stdout
    assert "from guerdon-toy 1.0 (kind:kind_words)" in text
    assert re.search(r"^least +int +1 +How many of them are enough\.", text, re.M)


def test_show_tells_of_a_function_in_a_file(site: "Site") -> None:
    (site.home / "polite.py").write_text(TARGET)
    (site.home / "agent.py").write_text("async def ask(task, policy): return ''\n")
    assert "reward kind_words" in site.guerdon("plugins", "show", "./polite.py:kind_words").stdout
    shown = site.guerdon("plugins", "show", "./agent.py:ask").stdout
    assert "agent ask" in shown and "It has no settings." in shown


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("numerik", "error: there is no component 'numerik'. Did you mean 'numeric'?"),
        ("guerdon:numerik", "error: package 'guerdon' has no reward 'numerik'. Did you mean 'numeric'?"),
        ("agent:numeric", "error: there is no agent 'numeric'. Known: chat, math, tool."),
    ],
)
def test_show_of_what_is_not_there(site: "Site", name: str, message: str) -> None:
    done = site.guerdon("plugins", "show", name)
    assert (done.returncode, done.stdout, done.stderr.strip()) == (1, "", message)


RECIPE = """model: any
backend: {openai: {base_url: "http://127.0.0.1:9/v1"}}
tasks: {path: tasks.jsonl}
rewards:
  - numeric
  - REF
"""


@pytest.mark.parametrize(
    ("ref", "message"),
    [
        ("same", "reward 'same' is registered by guerdon-one 1.0 and guerdon-two 1.0: write guerdon-one:same or "),
        ("needy", "reward 'needy' needs no-such-library, not installed: pip install 'guerdon-needy[fancy]'"),
        ("gone", "there is no reward 'gone'"),
        ("gone", "plugin 'guerdon-broken' (from guerdon-broken 1.0) failed to load: ModuleNotFoundError: "),
        ("guerdon-two:sane", "package 'guerdon-two' has no reward 'sane'. Did you mean 'same'?"),
        ("guerdon-one:same: {leest: 2}", "has no setting 'leest'. Did you mean 'least'?"),
    ],
)
def test_a_recipe_that_names_what_cannot_be_had(site: "Site", ref: str, message: str) -> None:
    site.add("guerdon-one", reward("same"), kind=TARGET)
    site.add("guerdon-two", reward("same"))
    site.add("guerdon-broken", "import no_such_library")
    needy = reward("needy").replace('kind_words")', 'kind_words", extra="fancy")')
    site.add("guerdon-needy", needy, metadata=EXTRA.replace("guerdon-toy", "guerdon-needy"))
    (site.home / "recipe.yaml").write_text(RECIPE.replace("REF", ref))
    (site.home / "tasks.jsonl").write_text('{"prompt": "2+2?", "answer": "4"}\n')
    done = site.guerdon("check", "recipe.yaml")
    assert done.returncode == 1
    assert re.search(r"^error: recipe\.yaml, line 6, column \d+", done.stderr, re.M), done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_a_recipe_says_which_of_two_it_means(site: "Site") -> None:
    site.add("guerdon-one", reward("same"), kind=TARGET)
    site.add("guerdon-two", reward("same"), version="2.0")
    (site.home / "recipe.yaml").write_text(RECIPE.replace("REF", "guerdon-two:same: {least: 2}"))
    (site.home / "tasks.jsonl").write_text('{"prompt": "2+2?", "answer": "4"}\n')
    done = site.guerdon("check", "recipe.yaml")
    assert (done.returncode, done.stderr) == (0, "")
    assert "same (guerdon-two 2.0)" in done.stdout


def test_the_schema_knows_the_settings_of_installed_components(site: "Site") -> None:
    site.add("guerdon-toy", reward("kind"), kind=TARGET)
    site.add("guerdon-bad", reward("gone", "no_such_module:f"))
    odd = "class Odd: ...\ndef odd(completion, *, how: Odd = Odd()): return 1.0\n"
    site.add("guerdon-odd", reward("odd", "odd_words:odd"), odd_words=odd)
    schema = json.loads(site.guerdon("schema").stdout)
    assert schema["properties"]["rewards"]["items"] == {"$ref": "#/$defs/rewards"}
    assert {"$ref": "#/$defs/agents", "default": "chat"}.items() <= schema["properties"]["agent"].items()
    choices = schema["$defs"]["rewards"]["anyOf"]
    assert {"kind", "gone", "odd", "numeric"} <= set(choices[0]["enum"])
    settings = {name: inner for c in choices for name, inner in c.get("properties", {}).items()}
    assert settings["kind"]["additionalProperties"] is False
    kind = settings["kind"]["properties"]
    assert kind.keys() == {"words", "least", "weight", "label", "timeout"}
    assert kind["words"]["items"] == {"type": "string"}
    assert (kind["least"]["type"], kind["least"]["default"]) == ("integer", 1)
    assert "least" not in settings["gone"].get("properties", {})
    every = re.findall(r'"#/\$defs/(\w+)"', json.dumps(schema))
    assert set(every) <= set(schema["$defs"])
