"""Wires the deployer."""

from datetime import timedelta

from services.kit.db import Database
from services.kit.health import Progress
from services.kit.service import Parts
from services.kit.signing import KeyRing, Signer

from . import api
from .gateway import KafkaStreams
from .handlers import subscriptions
from .jobs import EndRollouts, FollowReplicas, TendTopics
from .settings import DeployerSettings
from .usecases import Deployer, EndpointTopics


def build(settings: DeployerSettings) -> Parts:
    """Every part of the service; nothing runs yet."""
    db, progress = Database(settings.service_database, "deployer"), Progress()
    signer = Signer(settings.keys / "deployer.key", "deployer")
    deployer = Deployer(
        db, signer, KeyRing(settings.keys / "public"), replicas_needed=settings.replicas_needed,
        rollout_patience=timedelta(seconds=settings.rollout_patience_s),
    )  # fmt: skip
    kept = timedelta(hours=settings.removed_kept_h)
    topics = EndpointTopics(db, signer, KafkaStreams(settings), removed_kept=kept)
    return Parts(
        service="deployer",
        settings=settings,
        db=db,
        routers=[api.router(deployer)],
        subscriptions=subscriptions(deployer),
        progress=progress,
        jobs=[
            FollowReplicas(settings, deployer, progress).run,
            TendTopics(db, topics).run,
            EndRollouts(deployer).run,
        ],
    )
