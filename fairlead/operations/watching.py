"""Whether a model is still right, and making it right again."""

from datetime import datetime
from typing import Any

from contracts import RetrainingRequested

from ..answers import Drift, Page, Replay, Retraining
from ..attributions import AttributionDrift
from ..comparisons import Comparisons
from ..flows import Document, part, read, send, settled, text
from ..levels import Service
from ..rules import Rules
from ..slices import SegmentDrift, Slices
from ..trials import DryRun
from ..wire import Flow, operation


class Watching:
    """Whether a model is still right, and making it right again."""

    @operation
    def monitor(self, endpoint: str) -> Flow[Document]:
        """How an endpoint is watched, and its present state."""
        return (yield from read(Document, f"/v1/monitors/{part(endpoint)}"))

    @operation
    def configure_monitor(self, endpoint: str, **settings: Any) -> Flow[Document]:
        """Change how an endpoint is watched: `window_s`, `budget_rows`, `tolerance`, `season_s`,
        `retrain_on_drift`, `quality_alerts`, `silent_after_s`, `detectors`, `rules` and the like; of `None` what the
        deployment says holds again."""
        return (yield from send(Document, "PUT", f"/v1/monitors/{part(endpoint)}", settings))

    @operation
    def dry_run(self, endpoint: str, **settings: Any) -> Flow[DryRun]:
        """Which alarms `budget_rows`, `tolerance` or `season_s` would have raised over what is recorded, beside those
        of the present setting. Changes nothing."""
        return (yield from send(DryRun, "POST", f"/v1/monitors/{part(endpoint)}/dry-run", settings))

    @operation
    def drift(self, endpoint: str) -> Flow[Drift]:
        """How far an endpoint is from its baseline, with the evidence."""
        return (yield from read(Drift, f"/v1/monitors/{part(endpoint)}/drift"))

    @operation
    def segment_drift(
        self, endpoint: str, *, windows: int | None = None, limit: int | None = None
    ) -> Flow[SegmentDrift]:
        """How far columns moved within each group of the model's segments, over the newest `windows`; at most `limit`
        columns of each group."""
        path = f"/v1/monitors/{part(endpoint)}/drift/segments"
        return (yield from read(SegmentDrift, path, windows=windows, limit=limit))

    @operation
    def attribution_drift(self, endpoint: str, *, windows: int | None = None) -> Flow[AttributionDrift]:
        """What an endpoint's decisions rest on and how far that moved, over the newest `windows`; or why it is not
        known."""
        path = f"/v1/monitors/{part(endpoint)}/drift/attributions"
        return (yield from read(AttributionDrift, path, windows=windows))

    @operation
    def rules(self, endpoint: str, *, windows: int | None = None) -> Flow[Rules]:
        """How decisions kept the business rules of an endpoint, over its newest `windows`."""
        return (yield from read(Rules, f"/v1/monitors/{part(endpoint)}/rules", windows=windows))

    @operation
    def windows(self, endpoint: str, *, limit: int | None = None, cursor: str | None = None) -> Flow[Page[Document]]:
        """The closed windows of an endpoint, newest first."""
        path = f"/v1/monitors/{part(endpoint)}/windows"
        return (yield from read(Page[Document], path, limit=limit, cursor=cursor))

    @operation
    def service(self, endpoint: str, *, span: str = "24h") -> Flow[Service]:
        """How an endpoint served in the last so much time (`90m`, `24h`, `30d`), what its use case promises, and what
        it cost."""
        return (yield from read(Service, f"/v1/monitors/{part(endpoint)}/service", span=span))

    @operation
    def slices(
        self,
        endpoint: str,
        *,
        version: int | None = None,
        since: datetime | str | None = None,
        until: datetime | str | None = None,
        limit: int | None = None,
    ) -> Flow[Slices]:
        """The groups of its segments, and pairs of groups, in which an endpoint is surely worse than elsewhere, the
        worst first; of all outcomes that are kept, unless said otherwise."""
        path = f"/v1/monitors/{part(endpoint)}/slices"
        given = {"version": version, "since": text(since), "until": text(until), "limit": limit}
        return (yield from read(Slices, path, **given))

    @operation
    def compare(
        self,
        endpoint: str,
        *,
        since: datetime | str | None = None,
        until: datetime | str | None = None,
        limit: int | None = None,
    ) -> Flow[Comparisons]:
        """A shadow held against what callers were told of the same requests: how often it would have decided
        differently, where, and who was right; of 30 days, unless said otherwise, and at most `limit` windows."""
        path = f"/v1/monitors/{part(endpoint)}/comparison"
        return (yield from read(Comparisons, path, since=text(since), until=text(until), limit=limit))

    @operation
    def retrain(
        self, endpoint: str, reason: str, *, since: datetime | str | None = None, wait: float | None = None
    ) -> Flow[Retraining]:
        """Ask for the model behind an endpoint to be trained anew on its recorded rows (those `since` a time).

        With `wait` (seconds) it returns when the candidate was compared with the champion.
        """
        body = {"endpoint": endpoint, "reason": reason}
        asked = yield from send(
            RetrainingRequested, "POST", "/v1/retrainings", body | ({"since": text(since)} if since else {})
        )
        requested = Retraining(id=str(asked.retraining_id), state="requested", model=asked.model)
        path = f"/v1/retrainings/{asked.retraining_id}"
        return requested if wait is None else (yield from settled(Retraining, path, wait, requested))

    @operation
    def retraining(self, id: str, *, wait: float | None = None) -> Flow[Retraining]:
        """How far a retraining came."""
        return (yield from settled(Retraining, f"/v1/retrainings/{part(id)}", wait))

    @operation
    def replay_decisions(
        self,
        endpoint: str,
        *,
        model: str,
        version: int,
        of: str | None = None,
        since: datetime | str | None = None,
        until: datetime | str | None = None,
        against: int | None = None,
        wait: float | None = None,
    ) -> Flow[Replay]:
        """Score recorded rows of an endpoint with another version, and compare it with what was decided then: how often
        both agree, and who was right where the truth is known.

        `of` is the model that decided, where it is another one; `against` takes only what that version decided. With
        `wait` (seconds) it returns when it is done.
        """
        given = {"of": of, "since": text(since), "until": text(until), "against": against}
        body: Document = {"endpoint": endpoint, "model": model, "version": version}
        body |= {name: value for name, value in given.items() if value is not None}
        asked = yield from send(Replay, "POST", "/v1/replays", body)
        return asked if wait is None else (yield from settled(Replay, f"/v1/replays/{asked.id}", wait, asked))

    @operation
    def replay_of_decisions(self, id: str, *, wait: float | None = None) -> Flow[Replay]:
        """How far a replay of decisions came."""
        return (yield from settled(Replay, f"/v1/replays/{part(id)}", wait))

    @operation
    def retrainings(
        self,
        *,
        model: str | None = None,
        endpoint: str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> Flow[Page[Retraining]]:
        """Retrainings, newest first, of a model or of what an endpoint served."""
        filters = {"model": model, "endpoint": endpoint}
        return (yield from read(Page[Retraining], "/v1/retrainings", **filters, limit=limit, cursor=cursor))
