"""Play the journey on a running platform: `python -m examples.demo`."""

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable

import httpx
from aiokafka.errors import KafkaError
from rich.console import Console
from rich.markup import escape

from fairlead.errors import FairleadError

from .cast import Cast, DidNotHappen, home
from .story import Story
from .summary import show

Step = Callable[[], Awaitable[str]]


async def play(cast: Cast, console: Console) -> int:
    story = Story(cast)
    steps: list[tuple[str, Step]] = [
        ("Register two models", story.register),
        ("Ask, check, grant, deploy", story.deploy),
        ("Deploy the sandboxed twin", story.deploy_sklearn),
        ("Score by REST, stream and batch", story.score),
        ("Find a decision again", story.look_up),
        ("Break the data, wait for the alarm", story.drift),
        ("Retrain on what was recorded", story.retrain),
        ("Promote the better model", story.promote),
        ("Prove it", story.prove),
    ]
    try:
        for number, (title, step) in enumerate(steps, 1):
            await _tell(console, f"{number}/{len(steps)}  {title}", step)
    except (FairleadError, DidNotHappen, KafkaError, httpx.HTTPError) as trouble:
        console.print("\n[bold red]The story stopped:[/]", escape(str(trouble) or type(trouble).__name__))
        console.print(f"What runs: make status. The logs are in {cast.home / 'logs'}.")
        return 1
    finally:
        await cast.close()
    show(console, story)
    return 0


async def _tell(console: Console, title: str, step: Step) -> None:
    started = time.perf_counter()
    with console.status(f"{title} …"):
        what = await step()
    console.print(f"[green]✓[/] {title} [dim]{time.perf_counter() - started:.1f} s[/]\n    {what}")


def main() -> int:
    console = Console(highlight=False)
    try:
        cast = Cast.of(home())
    except FileNotFoundError:
        console.print(f"No platform runs in {home()}: start it with `make up`.")
        return 1
    try:
        return asyncio.run(play(cast, console))
    except KeyboardInterrupt:
        console.print("\nInterrupted. The platform stays up: make demo plays again, make down stops it.")
        return 130


if __name__ == "__main__":
    sys.exit(main())
