"""The command `chat`: talk with what a run has trained, or with any model."""

import contextlib
import sys
import time
from typing import TYPE_CHECKING, Any

import click

from guerdon.printing import print_json

if TYPE_CHECKING:
    from guerdon.conversation import Conversation

HELP = "An empty line does nothing, /reset forgets the conversation, /quit or Ctrl-D ends, Ctrl-C stops an answer."


@click.command()
@click.argument("target", metavar="RUN|MODEL|FOLDER")
@click.argument("prompt", required=False)
@click.option("--system", default="", metavar="TEXT", help="The system message.")
@click.option("--thinking/--no-thinking", default=None, help="Whether a model that can is to think before it answers.")
@click.option("--temperature", type=click.FloatRange(0), help="0.7; with --thinking 0.6. 0 takes the likeliest token.")
@click.option("--top-p", type=click.FloatRange(0, 1, min_open=True), help="0.8; with --thinking 0.95.")
@click.option("--top-k", type=click.IntRange(-1), help="20.")
@click.option("--max-tokens", type=click.IntRange(1), help="Of an answer: 256; with --thinking 1024.")
@click.option("--base", is_flag=True, help="The model without the adapter, or without what the run has trained.")
@click.option("--backend", default="", metavar="NAME", help="What serves the model, instead of the run's, or of auto.")
@click.option("--runs", default=None, help="The folder of runs, instead of runs/.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for scripts.")
def chat(target: str, prompt: str | None, **options: Any) -> None:
    """Talk with the best checkpoint of a run, a model or an adapter.

    With a PROMPT, or one on stdin, its answer is printed; without one a conversation begins.
    """
    import asyncio
    from pathlib import Path

    from rich.console import Console

    from guerdon.conversation import Conversation, find_subject, settings
    from guerdon.launch import log_to
    from guerdon.report import Report
    from guerdon.served import open_backend

    if prompt is None and not sys.stdin.isatty():
        prompt = sys.stdin.read().rstrip("\n")
    if prompt is not None and not prompt.strip():
        raise click.UsageError("the prompt is empty")
    if prompt is None and options["as_json"]:
        raise click.UsageError("--json is for one prompt")
    report = Report(Console(stderr=True, highlight=False, quiet=options["as_json"]))
    subject = find_subject(target, Path(options["runs"] or "runs"), base=options["base"], backend=options["backend"])
    given = {name: options[name] for name in ("temperature", "top_p", "top_k", "max_tokens")}
    # each answer is a run of the loop of its own, so that Ctrl-C ends it and nothing else
    with log_to(report), asyncio.Runner() as runner:
        stack = contextlib.AsyncExitStack()
        try:
            endpoint = runner.run(stack.enter_async_context(open_backend(subject.backend, subject.model)))
            if subject.adapter:
                runner.run(endpoint.load_adapter(subject.adapter))
            body = settings(subject, options["thinking"], given)
            report.say(f"{subject.name}: {_described(body)}")
            conversation = Conversation(endpoint, body, options["system"])
            if options["as_json"]:
                assert prompt is not None
                _print_whole(runner, conversation, prompt, subject.name)
            elif prompt is not None:
                runner.run(_answer(conversation, prompt, report))
            else:
                _converse(runner, conversation, report)
        finally:
            runner.run(stack.aclose())


def _converse(runner: Any, conversation: "Conversation", report: Any) -> None:
    from guerdon.errors import BackendError

    with contextlib.suppress(ImportError):
        import readline  # noqa: F401  # lines can be edited and recalled
    report.say(HELP)
    while True:
        try:
            text = input("\n> ").strip()
        except KeyboardInterrupt:
            continue
        except EOFError:
            return click.echo()
        if text == "/quit":
            return
        if text == "/reset":
            conversation.reset()
        elif text.startswith("/"):
            report.say(HELP)
        elif text:
            try:
                runner.run(_answer(conversation, text, report))
            except KeyboardInterrupt:
                click.echo(" ...")
            except BackendError as error:
                report.warn(f"{error}\n/reset begins anew.")


async def _answer(conversation: "Conversation", text: str, report: Any) -> None:
    async with contextlib.aclosing(conversation.ask(text)) as pieces:  # type: ignore[type-var]
        async for piece in pieces:
            # no escape sequences: a model must not move the cursor or set the title
            click.echo(piece.replace("\x1b", ""), nl=False)
            sys.stdout.flush()
    click.echo()
    if conversation.finish == "length":
        report.say("(cut off: --max-tokens allows a longer answer)")


def _print_whole(runner: Any, conversation: "Conversation", prompt: str, name: str) -> None:
    started = time.perf_counter()
    reply = runner.run(conversation.answer(prompt))
    choice = reply["choices"][0]
    print_json(
        {
            "model": name,
            "prompt": prompt,
            "answer": choice["message"].get("content"),
            "finish_reason": choice.get("finish_reason"),
            "usage": reply.get("usage"),
            "seconds": round(time.perf_counter() - started, 3),
            "sampling": conversation.body,
        }
    )


def _described(body: dict[str, Any]) -> str:
    """A request's settings in words."""
    words = [f"{name} {body[name]:g}" for name in ("temperature", "top_p", "top_k") if name in body]
    if template := body.get("chat_template_kwargs"):
        words.append("thinking" if template["enable_thinking"] else "not thinking")
    return ", ".join([*words, f"at most {body['max_tokens']} tokens"])
