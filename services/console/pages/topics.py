"""Topics: rates, lags, sizes, dead letters; a look at the latest events; replay."""

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Form, Request
from fastapi.responses import HTMLResponse

from services.console.api import LetterView
from services.console.gateway import Answer
from services.kit.context import Caller
from services.kit.topics import TopicState

from .shell import Person, Shell, tried

_PEEK = 30


def router(shell: Shell) -> APIRouter:
    """`/topics`, the page of each, and `/dead-letters`."""
    api = APIRouter(include_in_schema=False)
    console = shell.console

    @api.get("/topics")
    async def topics(request: Request, me: Person) -> HTMLResponse:
        found = await tried(console.topics(me, request))
        template = "topic_list.html" if "hx-request" in request.headers else "topics.html"
        return shell.page(request, template, topics=found, groups=_groups(found), title="Topics")

    @api.get("/topics/{topic}")
    async def topic(request: Request, me: Person, topic: str) -> HTMLResponse:
        found, events = await asyncio.gather(
            tried(console.topics(me, request)), tried(console.latest(me, request, [topic], _PEEK))
        )
        state = next((t for t in found.data if t.topic == topic), None)
        return shell.page(request, "topic.html", 200 if events.ok else events.status, topic=state, events=events,
                          name=topic, title=topic)  # fmt: skip

    @api.get("/dead-letters")
    async def letters(request: Request, me: Person, topic: str = "", cursor: str = "") -> HTMLResponse:
        facts = await _letters(shell, request, me, topic, cursor)
        return shell.page(request, "letters.html", **facts, title="Dead letters")

    @api.post("/dead-letters/replay")
    async def replay(
        request: Request,
        me: Person,
        topic: Annotated[str, Form(max_length=249)],
        partition: Annotated[int | None, Form(ge=0)] = None,
        offset: Annotated[int | None, Form(ge=0)] = None,
        shown: Annotated[str, Form(max_length=249)] = "",
    ) -> HTMLResponse:
        places = None if partition is None or offset is None else [(partition, offset)]
        answer = await tried(console.replay(me, request, topic, places))
        done = _done(topic, *answer.data) if answer.ok else ""
        return shell.page(
            request, "letter_list.html", **await _letters(shell, request, me, shown), answer=answer, done=done
        )

    return api


async def _letters(shell: Shell, request: Request, me: Caller, topic: str, cursor: str = "") -> dict[str, Any]:
    told = await tried(shell.console.dead_letters(me, request, topic or None, 200, cursor or None))
    found, older = told.data if told.ok else ([], None)
    letters = Answer([LetterView.of(letter) for letter in found], told.status, told.problem)
    waiting = sorted({x.topic for x in letters.data if not x.replayed})
    return {"letters": letters, "topic": topic, "waiting": waiting, "older": older, "below": cursor}


def _done(topic: str, replayed: int, left: int) -> str:
    more = f" {left} cannot be: they name no source or were too large to be kept." if left else ""
    return f"{replayed} of {topic} given out again.{more}"


def _groups(found: Answer) -> list[tuple[str, list[TopicState]]]:
    """Topics by who speaks on them; dead letters apart."""
    states: list[TopicState] = [state for state in found.data if not state.topic.startswith("dlq.")]
    speakers = sorted({state.speaker or "others" for state in states}, key=lambda s: (s == "others", s == "every", s))
    return [(speaker, [s for s in states if (s.speaker or "others") == speaker]) for speaker in speakers]
