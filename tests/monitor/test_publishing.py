"""What people are told of an endpoint's outcomes is shown to Prometheus, too, as long as the endpoint serves."""

from collections.abc import Callable
from functools import partial

import numpy as np
from prometheus_client import REGISTRY

from contracts import MonitorSettings as Watching
from contracts import Service
from services.kit.db import Database
from services.kit.objects import Objects
from services.kit.settings import Settings
from services.monitor.settings import MonitorSettings
from services.monitor.usecases.outcomes import Outcomes
from services.monitor.usecases.publishing import Publishing
from services.monitor.usecases.serving import Serving
from services.monitor.usecases.versions import Versions

from .saying import deployment, fresh, say_deployment
from .telling import tell
from .test_outcomes import after, eventually, figure, labelled, schema, watching

Speaker = Callable[[Service], Settings]


async def test_figures_of_outcomes_are_shown_while_the_endpoint_serves(
    monitor_settings: MonitorSettings, speaker: Speaker
) -> None:
    endpoint, random = fresh(), np.random.default_rng(1)
    watched = Watching(window_s=10.0, kpis={"worth": "value"})
    events = [e.model_copy(update={"value": 2.0}) for e in labelled(endpoint, random, 400)]
    sample = partial(_sample, endpoint=endpoint, version="1", variant="champion")
    async with watching(monitor_settings, speaker, endpoint, schema(), monitor=watched) as outcomes:
        await tell(speaker("recorder"), events)
        found = await after(outcomes, endpoint, 400)
        db = Database(monitor_settings.service_database, "monitor")
        publishing = Publishing(
            db, Outcomes(db, Versions(db, Objects(monitor_settings))), Serving(monitor_settings, db)
        )  # fmt: skip
        assert await publishing.look() == {}
        accuracy = figure(found, "accuracy")
        assert [sample("performance", figure="accuracy", of="", bound=bound) for bound in ("low", "value", "high")] == [
            accuracy.interval[0],
            accuracy.value,
            accuracy.interval[1],
        ]
        assert sample("performance", figure="kpi", of="worth", bound="value") == 2.0
        assert (
            sample("fairness", attribute="colour", measure="demographic parity difference", bound="value") is not None
        )
        await say_deployment(speaker("deployer"), deployment(endpoint, schema(), None, state="removed", revision=2))
        await eventually(partial(_is_gone, publishing, sample), within=40)
        await db.close()


def _sample(name: str, **labels: str) -> float | None:
    return REGISTRY.get_sample_value(f"fairlead_monitor_{name}", labels)


async def _is_gone(publishing: Publishing, sample: Callable[..., float | None]) -> bool:
    await publishing.look()
    return sample("performance", figure="accuracy", of="", bound="value") is None
