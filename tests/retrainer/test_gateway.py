"""What the recorder's answers mean for a job."""

from pathlib import Path

import pytest
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

from deploy.embedded.standalone import free_home
from services.kit.context import Context, system, use
from services.kit.errors import Unavailable
from services.kit.ids import now
from services.retrainer.gateway import NoSnapshot, Recorder, Snapshot
from services.retrainer.settings import RetrainerSettings

from .making import STORY
from .serving import serving

DIGEST = "sha256:" + "a" * 64


@pytest.fixture
def settings(home: Path, tmp_path: Path) -> RetrainerSettings:
    return RetrainerSettings(home=home, port=free_home(tmp_path / "free").port)


def answering(status: int, content: object, seen: list[Request] | None = None) -> FastAPI:
    app = FastAPI()

    @app.post("/v1/snapshots")
    async def snapshots(request: Request) -> JSONResponse:
        if seen is not None:
            await request.body()
            seen.append(request)
        return JSONResponse(content, status)

    return app


async def _ask(settings: RetrainerSettings) -> Snapshot:
    with use(Context(system("retrainer", "retail"), **STORY)):
        return await Recorder(settings).snapshot("sizes", "threshold", now())


async def test_a_snapshot_is_asked_for_under_the_service_s_own_identity(settings: RetrainerSettings) -> None:
    seen: list[Request] = []
    async with serving(
        answering(201, {"digest": DIGEST, "rows": 7, "more": 1}, seen), settings.listen_port("recorder")
    ):
        assert await _ask(settings) == Snapshot(DIGEST, 7)
    token = (settings.home / "secrets" / "tokens" / "retrainer.jwt").read_text().strip()
    assert seen[0].headers["authorization"] == f"Bearer {token}"
    assert seen[0].headers["fairlead-correlation-id"] == STORY["correlation_id"]
    asked = await seen[0].json()
    assert set(asked) == {"endpoint", "model", "since", "unit"}
    assert asked["unit"] == "retail", "its identity sees every unit; the job is of one"


@pytest.mark.parametrize("status", [500, 503, 429, 401])
async def test_trouble_of_the_recorder_means_to_wait(settings: RetrainerSettings, status: int) -> None:
    async with serving(answering(status, {}), settings.listen_port("recorder")):
        with pytest.raises(Unavailable, match=str(status)):
            await _ask(settings)


async def test_a_recorder_that_is_not_there_means_to_wait(settings: RetrainerSettings) -> None:
    with pytest.raises(Unavailable, match="away"):
        await _ask(settings)


async def test_a_refusal_of_the_recorder_is_the_reason_of_the_failure(settings: RetrainerSettings) -> None:
    async with serving(answering(404, {"detail": "no endpoint sizes"}), settings.listen_port("recorder")):
        with pytest.raises(NoSnapshot, match="no endpoint sizes"):
            await _ask(settings)
