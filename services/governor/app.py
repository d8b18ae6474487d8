"""Wires the governor."""

from services.kit.burial import Burial
from services.kit.connections import Connections
from services.kit.db import Database
from services.kit.health import Progress
from services.kit.service import Parts
from services.kit.signing import KeyRing, Signer

from . import api
from .engine import policies, process
from .gateway import Channels
from .handlers import subscriptions
from .jobs import Bookkeeper
from .settings import GovernorSettings
from .usecases import (
    Alerts,
    Approvals,
    Governor,
    Ledger,
    LifeCycle,
    Reports,
    Retrainings,
    Routes,
    Runner,
    Silences,
    Telling,
)


def build(settings: GovernorSettings) -> Parts:
    """The governor's parts. Raises BadTemplate and what wrong policies raise."""
    db, progress = Database(settings.service_database, "governor", pool=10), Progress()
    channels = Channels(Connections.of(settings))
    governor, burial = compose(settings, db, channels, progress), Burial(settings, "governor")
    return Parts(
        service="governor",
        settings=settings,
        db=db,
        routers=api.routers(settings, governor),
        subscriptions=subscriptions(governor),
        jobs=[
            governor.life_cycle.wake_due,
            governor.ledger.watch,
            governor.telling.run,
            Bookkeeper(settings, governor.ledger, burial, progress).run,
        ],
        closing=[burial.close, channels.close],
        progress=progress,
    )


def compose(
    settings: GovernorSettings, db: Database, channels: Channels | None = None, progress: Progress | None = None
) -> Governor:
    """The use cases over a database."""
    channels = channels or Channels(Connections.of(settings))
    signer = Signer(settings.keys / "governor.key", "governor")
    runner = Runner(process.load(settings.templates), policies.load(settings.policies))
    approvals = Approvals(db, runner, signer, settings.grant_lasts)
    retrainings = Retrainings(db, runner)
    runner.serve(
        operations={"grant": approvals.grant, "reject": approvals.reject, "request": retrainings.request},
        asks={"approve": approvals.ask},
        endings=[retrainings.free_alarm],
    )
    ledger = Ledger(
        db, signer, KeyRing(settings.keys / "public"), settings.checkpoints, seal_rows=settings.seal_rows,
        seal_after_s=settings.seal_after_s, gap_alert_s=settings.gap_alert_s,
    )  # fmt: skip
    telling = Telling(
        db, channels, settings.console, attempts=settings.alert_attempts, first_pause_s=settings.alert_retry_s,
        beat_every_s=settings.alertmanager_every_s, progress=progress,
    )  # fmt: skip
    return Governor(
        LifeCycle(db, runner), approvals, retrainings, Alerts(db), Routes(db, channels), Silences(db), telling, ledger,
        Reports(db, runner),
    )  # fmt: skip
