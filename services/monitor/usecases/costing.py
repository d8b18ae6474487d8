"""What it costs that a model became worse, by the endpoint's value matrix and its volume."""

from datetime import UTC, datetime, timedelta

from services.kit.db import Tx
from services.kit.ids import now

from ..domain.outcomes.loss import Worse
from ..domain.outcomes.performance import classes_of, worth_of_being_right
from ..domain.outcomes.tally import Tally
from ..store import Endpoint, arrivals, outcomes
from .outcomes import favourable_of

_EVER, _DAY = datetime(1970, 1, 1, tzinfo=UTC), timedelta(days=1)


async def of_errors(tx: Tx, endpoint: Endpoint, effect: Worse) -> tuple[float | None, float | None]:
    """Of the errors beyond those before: per 1,000 decisions, and decisions a day; None for both where no value matrix
    says what an error costs, or nothing was right or wrong so far."""
    matrix = endpoint.settings.value_matrix
    if matrix is None or effect.metric != "error rate":
        return None, None
    tally, task = Tally(), None
    for span, counts in await outcomes.windows(tx.session, endpoint.endpoint, _EVER, now() + _DAY):
        if span.version == endpoint.version:
            tally.merge(counts.tally)
            task = counts.task
    favourable = favourable_of(endpoint.settings, task, classes_of(tally)) if task else None
    worth = worth_of_being_right(tally, matrix, favourable) if favourable is not None else None
    if worth is None:
        return None, None
    at = now()
    rows = await arrivals.lately(tx.session, endpoint.endpoint, at - _DAY, at)
    return (effect.now.value - effect.before) * worth * 1_000, float(rows)
