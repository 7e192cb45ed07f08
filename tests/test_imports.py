"""The import budget: what a short command may not load, with 50 plugins installed."""

import json
import subprocess
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import Site

HEAVY = [
    *("torch", "transformers", "trl", "peft", "datasets", "pyarrow", "sympy", "flint", "openai", "agents", "mcp"),
    *("pydantic", "httpx", "rich", "uvicorn", "uvloop", "starlette", "yaml", "numpy", "asyncio"),
]
PROBE = """
import json, resource, sys
{run}
used = resource.getrusage(resource.RUSAGE_SELF)
print(json.dumps([sorted(sys.modules), 1000 * (used.ru_utime + used.ru_stime)]), file=sys.stderr)
"""
COMMAND = "sys.argv = ['guerdon', *{args}]\nfrom guerdon.cli import main\ntry: main()\nexcept SystemExit: pass"


@pytest.fixture
def crowded(site: "Site") -> "Site":
    """Fifty plugins, each with a reward of its own."""
    for n in range(50):
        site.add(
            f"guerdon-toy{n}",
            "import guerdon\n\n@guerdon.hookimpl\ndef register_rewards(register):\n"
            f"    register('toy{n}', 'toy_components:toy{n}')\n",
        )
    return site


def modules_after(site: "Site", run: str) -> tuple[set[str], float, str]:
    """What is loaded once `run` has run; the process's CPU time, ms; what it printed."""
    done: subprocess.CompletedProcess[str] = site.python("-c", PROBE.format(run=run))
    assert done.returncode == 0, done.stderr
    names, cpu = json.loads(done.stderr)
    return {name.partition(".")[0] for name in names}, cpu, done.stdout


@pytest.mark.parametrize("args", [["--help"], ["--version"], ["plugins"], ["plugins", "list", "--json"]], ids=" ".join)
def test_a_short_command_loads_nothing_heavy(crowded: "Site", args: list[str]) -> None:
    for state in ("cold", "warm"):
        loaded, cpu, printed = modules_after(crowded, COMMAND.format(args=args))
        assert loaded.isdisjoint(HEAVY), loaded & set(HEAVY)
        assert "toy_components" not in loaded
        print(f"guerdon {' '.join(args)}, 50 plugins, index {state}: {cpu:.0f} ms CPU")
        if args[0] == "plugins":
            assert printed.count("toy_components:toy") == 50
            # what was found once is remembered: no plugin is imported, no distribution's metadata read
            assert ("guerdon_toy7" in loaded) == (state == "cold")
            assert state == "cold" or loaded.isdisjoint({"pluggy", "importlib_metadata", "email"})
        else:
            assert "guerdon_toy7" not in loaded


def test_importing_guerdon_loads_nothing(crowded: "Site") -> None:
    before, idle, _ = modules_after(crowded, "import importlib, typing")
    loaded, cpu, _ = modules_after(crowded, "import guerdon")
    assert loaded - before == {"guerdon"}
    print(f"import guerdon: {cpu - idle:.0f} ms CPU more than python alone")


def test_asking_for_the_plugins_in_a_script_loads_nothing_heavy(crowded: "Site") -> None:
    loaded, _, printed = modules_after(crowded, "import guerdon\nprint(len(guerdon.Plugins().components))")
    assert loaded.isdisjoint(HEAVY)
    assert int(printed) > 50


def test_looking_at_a_component_loads_none_of_what_it_needs(site: "Site") -> None:
    """`check`, `plugins show` and `schema` read signatures: a component's libraries are for its use."""
    loaded, _, _ = modules_after(site, COMMAND.format(args=["schema"]))
    assert loaded.isdisjoint(HEAVY[:11]), loaded & set(HEAVY[:11])
