"""Wires the deployer."""

from datetime import timedelta

from services.kit.db import Database
from services.kit.health import Progress
from services.kit.service import Parts
from services.kit.signing import KeyRing, Signer

from . import api
from .gateway import KafkaStreams
from .handlers import subscriptions
from .jobs import ClearAway, FollowReplicas
from .settings import DeployerSettings
from .usecases import Deployer


def build(settings: DeployerSettings) -> Parts:
    db, progress = Database(settings.service_database, "deployer"), Progress()
    deployer = Deployer(
        db,
        Signer(settings.keys / "deployer.key", "deployer"),
        KeyRing(settings.keys / "public"),
        KafkaStreams(settings),
        replicas_needed=settings.replicas_needed,
        removed_kept=timedelta(hours=settings.removed_kept_h),
    )
    return Parts(
        service="deployer",
        settings=settings,
        db=db,
        routers=[api.router(deployer)],
        subscriptions=subscriptions(deployer),
        progress=progress,
        jobs=[FollowReplicas(settings, deployer, progress).run, ClearAway(deployer).run],
    )
