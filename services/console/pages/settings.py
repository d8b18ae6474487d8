"""How an endpoint is watched: what is in force and where it comes from, tried and changed by those who may."""

import asyncio
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import orjson
from fastapi import APIRouter, Request
from fastapi.responses import Response

from contracts import MonitorSettings, Name
from services.console.gateway import Answer
from services.kit.context import Caller

from . import settings_form as form
from . import settings_trial as trial
from .shell import Person, Shell, may
from .typed import said

_CONFIGURE = "monitor.configure"
_TRIED_S = 50.0
"""So long a dry run may take: it reads thousands of windows."""
_STILL_POSSIBLE = (409, 422)
"""What a dry run refuses says nothing against a setting that the monitor would take."""


@dataclass(frozen=True)
class Typed:
    """What came from the form."""

    draft: form.Draft
    before: str
    """What held when it was opened, as JSON."""
    seen: str
    """The entity tag of that."""
    press: str
    tried: str
    """What the last try was of."""
    wants: str


def router(shell: Shell) -> APIRouter:
    """`/endpoints/{endpoint}/settings`."""
    api = APIRouter(prefix="/endpoints/{endpoint}/settings", include_in_schema=False)
    ask = shell.gateway.ask

    @api.get("")
    async def page(request: Request, me: Person, endpoint: Name, change: bool = False, saved: bool = False) -> Response:
        found, held = await asyncio.gather(
            ask(request, "deployer", f"/v1/endpoints/{endpoint}"), ask(request, "monitor", f"/v1/monitors/{endpoint}")
        )
        elsewhere = await _elsewhere(shell, request, endpoint, held)
        shown = _opened(held) if change and _changes(me, held) else {}
        return shell.page(
            request, "endpoint_settings.html", 200 if found.ok else found.status, found=found, held=held,
            name=endpoint, title=endpoint, saved=saved, may=_changes(me, held), elsewhere=elsewhere, **_words(held),
            **shown,
        )  # fmt: skip

    @api.post("")
    async def save(request: Request, me: Person, endpoint: Name) -> Response:
        asked = await _typed(request)
        held = await ask(request, "monitor", f"/v1/monitors/{endpoint}")
        if not held.ok:
            return shell.page(request, "settings_form.html", **_shown(endpoint, held, asked.draft), answer=held,
                              before=asked.before, seen=asked.seen)  # fmt: skip
        return await _Saving(shell, request, endpoint, asked, held).answer()

    return api


class _Saving:
    """One press of a button: tried, put in force, or shown again with what hinders it."""

    def __init__(self, shell: Shell, request: Request, endpoint: str, asked: Typed, held: Answer) -> None:
        self._shell, self._request, self._asked, self._held = shell, request, asked, held
        self._endpoint, self._at = endpoint, f"/v1/monitors/{endpoint}"

    async def answer(self) -> Response:
        asked = self._asked
        if asked.press:
            return self._form(form.changed(asked.draft, asked.press))
        if asked.seen != self._held.tag:
            return self._outdated()
        wrong, reason = form.mistake(asked.draft)
        if wrong:
            return self._form(asked.draft, wrong=wrong, reason=reason)
        changes = form.changes(form.of_settings(_settings(self._held)), asked.draft)
        if not changes:
            return self._form(asked.draft, unchanged=True)
        checked = await self._put(changes, "?validate_only=true")
        if not checked.ok:
            return await self._refused(checked)
        digest = sha256(orjson.dumps([changes, asked.seen], option=orjson.OPT_SORT_KEYS)).hexdigest()
        if asked.wants == "force" and asked.tried == digest:
            return await self._force(changes)
        return await self._try(checked, digest)

    async def _put(self, changes: dict[str, Any], query: str = "") -> Answer:
        return await self._shell.gateway.tell(
            self._request, "monitor", self._at + query, changes, "PUT", seen=self._asked.seen
        )

    async def _force(self, changes: dict[str, Any]) -> Response:
        answer = await self._put(changes)
        if not answer.ok:
            return await self._refused(answer)
        return Response(status_code=204, headers={"HX-Redirect": f"/endpoints/{self._endpoint}/settings?saved=true"})

    async def _try(self, checked: Answer, digest: str) -> Response:
        differing = _differing(self._held, checked)
        tried = [each for each, _, _ in differing if each.name in form.TRIED]
        dry, drift = await self._dry_run(checked) if tried else (Answer(status=204), Answer())
        shown: dict[str, Any] = {"lanes": [], "cut": False}
        if tried and dry.ok and dry.data["windows"]:
            shown = {"lanes": trial.lanes(dry.data, drift.data), "cut": trial.is_cut(dry.data, drift.data)}
        return self._form(
            self._asked.draft, dry=dry, drift=drift, place=trial.place, differing=differing, digest=digest,
            untried=[each.label for each, _, _ in differing if each.name not in form.TRIED], tried=bool(tried),
            forceable=dry.ok or dry.status in _STILL_POSSIBLE, again=self._asked.wants == "force", **shown,
        )  # fmt: skip

    async def _dry_run(self, checked: Answer) -> tuple[Answer, Answer]:
        after = _settings(checked)
        body = {name: getattr(after, name) for name in form.TRIED} | {"season_s": checked.data["season_s"] or 0.0}
        gateway = self._shell.gateway
        return await asyncio.gather(
            gateway.tell(self._request, "monitor", f"{self._at}/dry-run", body, timeout_s=_TRIED_S),
            gateway.ask(self._request, "monitor", f"{self._at}/drift"),
        )

    async def _refused(self, answer: Answer) -> Response:
        if answer.status == 412:  # changed between two of our own questions
            self._held = await self._shell.gateway.ask(self._request, "monitor", self._at)
            if self._held.ok:
                return self._outdated()
        draft = self._asked.draft
        wrong, reason = answer.refuses(form.names(draft))
        return self._form(draft, answer=answer, wrong=form.place_of(draft, wrong), reason=reason)

    def _outdated(self) -> Response:
        """Nothing is overwritten: what others changed is taken over, what this person changed stays typed."""
        asked, now = self._asked, form.of_settings(_settings(self._held))
        before = _loaded(asked.before)
        theirs = [(each, told) for each in form.ALL if (told := now[each.name]) != before.get(each.name)]
        both = {each.name for each, told in theirs if asked.draft[each.name] not in (before.get(each.name), told)}
        return self._form(form.merged(before, asked.draft, now), theirs=[each for each, _ in theirs], both=both)

    def _form(self, draft: form.Draft, **context: Any) -> Response:
        """As `draft` says, over what holds now."""
        if "theirs" in context or not self._asked.press:
            context |= {"before": _json(form.of_settings(_settings(self._held))), "seen": self._held.tag}
        else:
            context |= {"before": self._asked.before, "seen": self._asked.seen}
        shown = _shown(self._endpoint, self._held, draft)
        return self._shell.page(self._request, "settings_form.html", **shown, **context)


async def _typed(request: Request) -> Typed:
    fields = await request.form()
    given = {name: [str(value) for value in fields.getlist(name)] for name in fields}
    return Typed(form.read(given), *(said(given, name) for name in ("held-then", "seen", "press", "tried", "wants")))


async def _elsewhere(shell: Shell, request: Request, endpoint: str, held: Answer) -> dict[str, Answer]:
    """What is watched, too, and set elsewhere: with the package, the use case, and for the installation."""
    if not held.ok:
        return {}
    model, version = held.data["model"], held.data["version"]
    packaged, service = await asyncio.gather(
        shell.gateway.ask(request, "catalog", f"/v1/models/{model}/versions/{version}"),
        shell.gateway.ask(request, "monitor", f"/v1/monitors/{endpoint}/service", span="1h"),
    )
    return {"packaged": packaged, "service": service}


def _settings(held: Answer) -> MonitorSettings:
    """Those that hold: the monitor leaves out what is as it is by default."""
    return MonitorSettings.model_validate(held.data["settings"])


def _opened(held: Answer) -> dict[str, Any]:
    draft = form.of_settings(_settings(held))
    return {"draft": draft, "before": _json(draft), "seen": held.tag}


def _shown(endpoint: str, held: Answer, draft: form.Draft) -> dict[str, Any]:
    return {"name": endpoint, "held": held, "draft": draft, **_words(held)}


def _words(held: Answer) -> dict[str, Any]:
    """What the templates need to tell of settings."""
    return {
        "groups": form.GROUPS, "choices": form.CHOICES, "cells": form.CELLS, "detectors": form.DETECTORS,
        "severities": form.SEVERITIES,
        "told": form.told, "settings": _settings(held) if held.ok else None,
    }  # fmt: skip


def _changes(me: Caller, held: Answer) -> bool:
    """Whether this person may change it."""
    return held.ok and may(me, _CONFIGURE, held.data["unit"])


def _differing(held: Answer, checked: Answer) -> list[tuple[form.Setting, str, str]]:
    """What would hold otherwise: the setting, how it is now, how it would be."""
    now, after = _settings(held), _settings(checked)
    found = [(each, _reads(each, now, held), _reads(each, after, checked)) for each in form.ALL]
    return [(each, before, then) for each, before, then in found if before != then]


def _reads(setting: form.Setting, settings: MonitorSettings, held: Answer) -> str:
    """A setting as it holds, a season that was learned as well."""
    value = held.data["season_s"] if setting.name == "season_s" else getattr(settings, setting.name)
    return form.told(setting, value)


def _json(draft: form.Draft) -> str:
    return orjson.dumps(draft).decode()


def _loaded(text: str) -> dict[str, Any]:
    """What held when the form was opened; nothing where that cannot be read."""
    try:
        found = orjson.loads(text)
    except orjson.JSONDecodeError:
        return {}
    return found if isinstance(found, dict) else {}
