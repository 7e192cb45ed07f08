"""The page: one file, with a policy that lets nothing run or load but what is written here."""

import time
from base64 import b64encode
from hashlib import sha256
from importlib.resources import files

from guerdon import __version__
from guerdon.html import curves, result, rollouts
from guerdon.html.facts import Facts
from guerdon.html.markup import Markup, h, join
from guerdon.store import Run

PARTS = (
    result.headline,
    result.alarms,
    result.evaluations,
    curves.rewards,
    curves.training,
    curves.lengths,
    curves.time,
    rollouts.examples,
    rollouts.changed,
    rollouts.browse,
    result.recipe,
    result.versions,
)


def page(run: Run) -> str:
    """A run as an HTML document."""
    facts = Facts(run)
    style, script = (Markup((files("guerdon.html") / name).read_text("utf-8")) for name in ("style.css", "script.js"))
    policy = (
        f"default-src 'none'; style-src '{_hash(style)}'; script-src '{_hash(script)}'; base-uri 'none'; "
        "form-action 'none'"
    )
    head = h(
        "head",
        h("meta", charset="utf-8"),
        h("meta", http_equiv="Content-Security-Policy", content=policy),
        h("meta", name="viewport", content="width=device-width, initial-scale=1"),
        h("meta", name="color-scheme", content="light dark"),
        h("meta", name="referrer", content="no-referrer"),
        h("title", f"{run.id}: guerdon"),
        h("style", style),
    )
    body = [found for part in PARTS if (found := part(facts))]
    written = time.strftime("%Y-%m-%d %H:%M")
    foot = h("footer", f"Written {written} by guerdon {__version__}. Figures in a terminal: guerdon show {run.id}")
    return "<!doctype html>\n" + h("html", head, h("body", h("main", join(body), foot), h("script", script)), lang="en")


def _hash(text: str) -> str:
    """How a policy names the one script, or style, that it allows."""
    return f"sha256-{b64encode(sha256(text.encode()).digest()).decode()}"
