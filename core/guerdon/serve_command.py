"""`guerdon serve` and `guerdon worker`: a queue and workers that outlive the runs that use them."""

import os
import secrets
import shlex
from pathlib import Path

import click

PORT = 4747


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen at.")
@click.option("--port", default=PORT, show_default=True, type=click.IntRange(0, 65535), help="0 takes a free one.")
@click.option("--folder", default="queue", show_default=True, type=click.Path(), help="Where the queue is kept.")
def serve(host: str, port: int, folder: str) -> None:
    """Keep a queue of rollouts, for runs and workers in other terminals or on other machines.

    It prints what to type there. The token that opens the queue is taken from GUERDON_TOKEN, or drawn: set it to keep
    it over restarts.
    """
    from guerdon import event_loop

    token, given = os.environ.get("GUERDON_TOKEN", ""), True
    if not token:
        token, given = secrets.token_urlsafe(24), False
    event_loop.run(_serve(host, port, Path(folder), token, given))


async def _serve(host: str, port: int, folder: Path, token: str, given: bool) -> None:
    import asyncio
    import signal

    from guerdon.errors import StoreError
    from guerdon.gateway import serve_gateway
    from guerdon.local_queue import LocalQueue
    from guerdon.queue import Queue
    from guerdon.queue_server import queue_app

    try:
        folder.mkdir(parents=True, exist_ok=True)
        queue = LocalQueue(Queue(folder / "queue.db"))
    except OSError as error:
        raise StoreError(f"cannot keep a queue in {folder}: {error}") from error
    told = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, told.set)
    try:
        async with serve_gateway(host, port, more={"/queue": queue_app(queue, token)}, token=token) as gateway:
            url = gateway.base_url.removesuffix("/v1")
            setting = "" if given else f"GUERDON_TOKEN={shlex.quote(token)} "
            click.echo(f"The queue is at {url}, kept in {folder / 'queue.db'}. In other terminals:\n")
            click.echo(f"  {setting}guerdon worker {url}")
            click.echo(f"  {setting}guerdon run RECIPE --server {url}\n")
            if given:
                click.echo("with the same GUERDON_TOKEN. Ctrl-C ends it.")
            await told.wait()
            queue.hurry()
    finally:
        await queue.aclose()


@click.command()
@click.argument("url")
@click.option("--concurrency", default=16, show_default=True, type=click.IntRange(1), help="Rollouts at a time.")
def worker(url: str, concurrency: int) -> None:
    """Roll out for the runs that use the queue at URL, which `guerdon serve` prints, until Ctrl-C.

    It needs GUERDON_TOKEN, the agents' packages, and each recipe's folder at the place where the run has it.
    """
    from guerdon.worker_process import work

    work(url, token_for(url), concurrency)


def token_for(url: str) -> str:
    """GUERDON_TOKEN, taken out of the environment: what agents and rewards start has no use for it."""
    if not (token := os.environ.pop("GUERDON_TOKEN", "")):
        raise click.UsageError(f"set GUERDON_TOKEN to the token of the queue at {url}: `guerdon serve` prints it")
    return token
