"""The journey, step by step: each step does one thing to the platform and answers what it saw."""

import asyncio
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from examples.census import build, rows
from fairlead.errors import FairleadError, Forbidden

from .cast import USE_CASE, Cast, holds, until
from .traffic import Application, Tally, stream

PREDICTED_BY_STREAM = 4_000
PREDICTED_BY_BATCH = 20_000
ASKED_BY_REST = 3_000
DRIFTING = 12_000


@dataclass
class Seen:
    """What the story saw, for the summary."""

    version: int = 0
    refused: str = ""
    rest: Tally = field(default_factory=Tally)
    streamed: Tally = field(default_factory=Tally)
    batch: dict[str, Any] = field(default_factory=dict[str, Any])
    drifted: Tally = field(default_factory=Tally)
    trickle: Tally = field(default_factory=Tally)
    after: Tally = field(default_factory=Tally)
    drift: dict[str, Any] = field(default_factory=dict[str, Any])
    drift_after_s: float = 0.0
    told_after_s: float = 0.0
    """From the end of the window that shows the drift to the alarm."""
    retraining: dict[str, Any] = field(default_factory=dict[str, Any])
    promoted: int = 0
    served_after_s: float = 0.0
    decision: dict[str, Any] = field(default_factory=dict[str, Any])
    explanation: dict[str, Any] = field(default_factory=dict[str, Any])
    audit: dict[str, Any] = field(default_factory=dict[str, Any])


class Story:
    """Nine steps from a file to a better model. Each fails, with DidNotHappen, when what it tells is not true."""

    def __init__(self, cast: Cast) -> None:
        self.cast = cast
        self.seen = Seen()
        self.application = Application(cast)
        self._since = datetime.now(UTC)

    async def register(self) -> str:
        """A data scientist registers two models: the bytes are stored by digest, scanned and profiled."""
        packages = await asyncio.to_thread(_packages, self.cast.home / "demo")
        await self.cast["data-scientist"].register_use_case(
            USE_CASE, title="Who may need help to find work", owner="Counselling", unit="retail", risk_tier=2,
            purpose="Offer counselling early", protected=["SEX", "RAC1P"], kpi_targets={"accuracy": 0.8},
            sla={"latency_p99_ms": 500.0},  # counsellors wait for it, and its streams come thousands at once
        )  # fmt: skip
        versions = [await self.cast["data-scientist"].register(path) for path in packages]
        self.seen.version = versions[0].version
        for version in versions:
            holds(
                version.scan is not None and version.scan.verdict == "clean",
                f"the scan of {version.model} is not clean",
            )
        return "; ".join(f"{v.model} v{v.version}, scan {v.scan.verdict if v.scan else '?'}" for v in versions)

    async def deploy(self) -> str:
        """An engineer asks for it at a new endpoint; the gates pass; compliance may grant it, the engineer may not."""
        endpoint = self.cast.endpoint
        deployment = await self.cast["engineer"].deploy(
            endpoint, use_case=USE_CASE, model="census-employment", version=self.seen.version, streaming=True
        )
        approval = await until("the question to a person", lambda: self._pending(endpoint))
        try:
            await self.cast["engineer"].approve(approval, "looks fine to me")
        except Forbidden as refusal:
            self.seen.refused = str(refusal)
        holds(bool(self.seen.refused), "an engineer could grant a deployment that the engineer asked for")
        await self.cast["compliance"].approve(approval, "gates passed, use case known")
        started = asyncio.get_running_loop().time()
        serving = await self.cast["engineer"].deployment(deployment.id, wait=60)
        self.seen.served_after_s = asyncio.get_running_loop().time() - started
        holds(serving.state == "serving", f"{endpoint} is {serving.state}: {serving.reason}")
        return f"{endpoint} is {serving.state}, {self.seen.served_after_s:.1f} s after the grant"

    async def deploy_sklearn(self) -> str:
        """The scikit-learn twin goes to an endpoint of its own: it can execute code, so it runs in the sandbox."""
        endpoint = "employment-sklearn"
        try:
            if (await self.cast["engineer"].endpoint(endpoint)).state == "serving":
                return f"{endpoint} serves already"
        except FairleadError:
            pass  # the first demo in this home
        deployment = await self.cast["engineer"].deploy(
            endpoint, use_case=USE_CASE, model="census-employment-sklearn", version=1
        )
        approval = await until("the question to a person", lambda: self._pending(endpoint))
        await self.cast["compliance"].approve(approval, "the same model in another format")
        serving = await self.cast["engineer"].deployment(deployment.id, wait=60)
        holds(serving.state == "serving", f"{endpoint} is {serving.state}: {serving.reason}")
        tally = await self.application.score(endpoint, rows.year(2016).slice(0, 200), 10)
        _answered(tally, 20)
        return f"{endpoint} serves; accuracy {tally.accuracy:.3f} on {tally.rows} rows"

    async def score(self) -> str:
        """Applications score by REST, a producer by stream, a job by batch: census rows of 2016, one data plane."""
        endpoint, table = self.cast.endpoint, rows.shuffled(rows.year(2016), seed=7)
        rest = table.slice(0, ASKED_BY_REST)
        self.seen.rest = await self.application.score(endpoint, rest, at_once=16)
        _answered(self.seen.rest, ASKED_BY_REST)
        self.seen.streamed = await stream(self.cast, endpoint, table.slice(ASKED_BY_REST, PREDICTED_BY_STREAM))
        _answered(self.seen.streamed, PREDICTED_BY_STREAM)
        holds(not self.seen.streamed.repeated, f"{self.seen.streamed.repeated} events were answered more than once")
        file = self.cast.home / "demo" / "batch.parquet"
        start = ASKED_BY_REST + PREDICTED_BY_STREAM
        rows.write_parquet(table.slice(start, PREDICTED_BY_BATCH), file)
        batch = await self.cast["application"].batch(endpoint, file, wait=60)
        self.seen.batch = batch.model_dump()
        whole = batch.state == "done" and (batch.rows_done, batch.rows_failed) == (PREDICTED_BY_BATCH, 0)
        holds(whole, f"the batch is {batch.state}: {batch.rows_done} rows, {batch.rows_failed} failed; {batch.reason}")
        r, s = self.seen.rest, self.seen.streamed
        by_rest = f"{r.requests} by REST ({r.requests / r.seconds:,.0f}/s)"
        return f"{by_rest}, {s.requests} by stream, {PREDICTED_BY_BATCH} by batch"

    async def look_up(self) -> str:
        """Any decision is found again by its id, and explained."""
        id = self.seen.rest.last_id
        self.seen.decision = (await until("the recorded decision", lambda: self._decision(id))).model_dump()
        found = self.seen.decision
        known = found["inference_id"] == id and found["endpoint"] == self.cast.endpoint and len(found["decided"]) == 1
        holds(known, f"the decision {id} was recorded as another one: {found}")
        why = self.seen.explanation = (await self.cast["engineer"].explain(id)).model_dump()
        told = why["base"] + sum(each["contribution"] for each in why["contributions"])
        holds(abs(told - why["value"]) < 1e-6, f"the contributions do not add up to what the model says: {why}")
        most = why["contributions"][0]
        return f"decision {id}, made by v{found['version']}, {most['column']} = {most['value']:g} above all"

    async def drift(self) -> str:
        """A pipeline breaks: ages arrive in decades, each a valid age. The monitor tells, with evidence and effect."""
        self._since = datetime.now(UTC)
        broken = rows.age_in_decades(rows.shuffled(rows.year(2017), seed=11))
        self.seen.drifted = await self.application.score(
            self.cast.endpoint, broken.slice(0, DRIFTING), 20, at_once=4, outcomes=True
        )
        _answered(self.seen.drifted, -(-DRIFTING // 20))
        alarm = await until("a drift", self._drift, 60)
        self.seen.drift = found = alarm["event"]
        # From the alarm's own time: the story looks only after all rows are sent.
        self.seen.drift_after_s = (_moment(alarm["found_at"]) - self._since).total_seconds()
        self.seen.told_after_s = (_moment(alarm["found_at"]) - _moment(found["window"]["to"])).total_seconds()
        holds("AGEP" in {f["name"] for f in found["features"]}, "the alarm does not name the column that broke")
        worst = max(found["features"], key=lambda f: abs(f["effect"]))
        low, high = worst["interval"]
        return f"{worst['name']} moved by {worst['effect']:+.2f} {worst['unit']} ({low:+.2f} to {high:+.2f})"

    async def retrain(self) -> str:
        """The life cycle asks for a retraining; it learns from what was recorded and must beat the champion."""
        self.seen.retraining = await until("a retraining that ended", self._retraining, 180)
        ended = self.seen.retraining
        holds(ended["state"] == "candidate_won", f"the retraining ended as {ended['state']}: {ended['reason']}")
        return ended["reason"]

    async def promote(self) -> str:
        """The candidate asks for its own promotion; compliance grants; it takes over while requests go on."""
        endpoint, stop = self.cast.endpoint, asyncio.Event()
        broken = rows.age_in_decades(rows.shuffled(rows.year(2017), seed=13))
        trickle = asyncio.create_task(
            self.application.keep_scoring(endpoint, broken.slice(0, 4000), self.seen.trickle, stop)
        )
        try:
            approval = await until("the question about the candidate", lambda: self._pending(endpoint), 60)
            await self.cast["compliance"].approve(approval, "better on held-out rows")
            self.seen.promoted = await until("the promotion", self._promoted, 60)
            await asyncio.sleep(1)
        finally:
            stop.set()
            await trickle
        _answered(self.seen.trickle, self.seen.trickle.requests)
        holds(str(self.seen.promoted) in self.seen.trickle.by_version, "no request was answered by the new version")
        self.seen.after = await self.application.score(endpoint, broken.slice(4000, 4000), 20)
        _answered(self.seen.after, 200)
        before, now = self.seen.drifted.accuracy, self.seen.after.accuracy
        holds(now > before, f"the promoted version is no better: accuracy {now:.3f} after {before:.3f}")
        return f"v{self.seen.promoted} serves; no request of {self.seen.trickle.requests} failed meanwhile"

    async def prove(self) -> str:
        """The ledger of all of it is verified."""
        verified = await self.cast["compliance"].verify_audit()
        self.seen.audit = verified.model_dump()
        holds(verified.ok and verified.records > 0, f"the ledger does not verify: {verified.first_bad}")
        return f"{verified.records} records, chain and signatures hold"

    async def _pending(self, endpoint: str) -> str | None:
        pending = await self.cast["compliance"].approvals("pending", limit=200)
        return next((a.id for a in pending if a.endpoint == endpoint), None)

    async def _decision(self, id: str) -> Any:
        return await self.cast["engineer"].decision(id)

    async def _drift(self) -> dict[str, Any] | None:
        found = (await self.cast["engineer"].drift(self.cast.endpoint)).model_dump()
        return next(iter(found["alarms"]), None)

    async def _retraining(self) -> dict[str, Any] | None:
        page = await self.cast["data-scientist"].retrainings(endpoint=self.cast.endpoint)
        return next((retraining.model_dump() for retraining in page if retraining.settled), None)

    async def _promoted(self) -> int | None:
        endpoint = await self.cast["engineer"].endpoint(self.cast.endpoint)
        if endpoint.version == self.seen.version or endpoint.version is None:
            return None
        ready = all(
            r["state"] == "ready" and r["revision"] == endpoint.revision for r in endpoint.model_dump()["replicas"]
        )
        return endpoint.version if ready else None


def _moment(said: str) -> datetime:
    return datetime.fromisoformat(said)


def _answered(tally: Tally, requests: int) -> None:
    """All of them were answered, and none with an error."""
    failed = f"; the first: {tally.failed[0]}" if tally.failed else ""
    whole = not tally.failed and tally.requests == requests
    holds(whole, f"{tally.requests} of {requests} requests were answered, {len(tally.failed)} failed{failed}")


def _packages(folder: Path) -> list[Path]:
    """The two packages, built once in a home: the same bytes each time anyhow."""
    paths = [folder / f"{name}.zip" for name in build.PACKAGES]
    return paths if all(path.exists() for path in paths) else build.build(folder)
