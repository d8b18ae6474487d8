"""The monitor, put together."""

from contracts import DeploymentChanged
from services.kit.burial import Burial
from services.kit.compacted import Following
from services.kit.db import Database
from services.kit.health import Progress
from services.kit.objects import Objects
from services.kit.payloads import Payloads
from services.kit.service import Parts

from . import api
from .api import comparison, influences, performance, rules, segments, service, slices, trial
from .handlers import subscriptions
from .jobs import ARRIVALS_S, BUDGETS_S, FIGURES_S, SEASONS_S, Looks, OutcomeStream, Rounds, Stream
from .settings import MonitorSettings
from .usecases.arriving import Arrivals
from .usecases.attributing import Attributing
from .usecases.burning import Budgets
from .usecases.closing import Closing
from .usecases.counting import Counting
from .usecases.desired import Desired
from .usecases.forgetting import Forgetting
from .usecases.influences import Telling
from .usecases.judging import Judging
from .usecases.learning import Learning
from .usecases.metering import Metering
from .usecases.observing import Observing
from .usecases.outcomes import Outcomes
from .usecases.paired import Comparisons
from .usecases.publishing import Publishing
from .usecases.reading import Reading
from .usecases.rules import Telling as Ruled
from .usecases.segments import Segments
from .usecases.serving import Serving
from .usecases.slicing import Slicing
from .usecases.trying import Trying
from .usecases.versions import Versions


def build(settings: MonitorSettings) -> Parts:
    """The monitor's parts."""
    db = Database(settings.service_database, "monitor")
    objects, progress = Objects(settings), Progress()
    versions = Versions(db, objects)
    desired = Desired(db, versions)
    payloads, burial = Payloads(objects, settings.home / "run" / "monitor"), Burial(settings, "monitor")
    stream = Stream(settings, db, Counting(settings, versions, payloads, burial), burial, progress)
    outcomes = OutcomeStream(settings, db, Observing(settings, versions, burial), burial, progress)
    serving, told = Serving(settings, db), Outcomes(db, versions)
    rounds = Rounds(settings, db, Closing(settings, db, versions), versions, Judging(db), stream, progress)
    return Parts(
        service="monitor",
        settings=settings,
        db=db,
        routers=[
            api.router(Reading(db), desired),
            performance.router(told),
            comparison.router(Comparisons(db)),
            slices.router(Slicing(db, versions)),
            segments.router(Segments(db, versions)),
            influences.router(Telling(db)),
            rules.router(Ruled(db)),
            service.router(serving),
            trial.router(Trying(db, versions)),
        ],
        subscriptions=subscriptions(Metering(db), serving, Forgetting(db), Attributing(db)),
        jobs=[
            Following(settings, DeploymentChanged, desired.learn, progress).run,
            stream.run,
            outcomes.run,
            rounds.run,
            Looks("budgets", BUDGETS_S, Budgets(db).judge, progress).run,
            Looks("seasons", SEASONS_S, Learning(db, versions).look, progress).run,
            Looks("arrivals", ARRIVALS_S, Arrivals(db).judge, progress).run,
            Looks("figures", FIGURES_S, Publishing(db, told, serving).look, progress).run,
        ],
        closing=[burial.close],
        progress=progress,
        collect_after=200_000,
    )
