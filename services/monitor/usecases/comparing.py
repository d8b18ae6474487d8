"""Holds what shadows would have answered against what callers were told: a record of a shadow says both (ADR 51)."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import ValidationError

from contracts import Answered
from services.kit.db import Tx
from services.kit.errors import Invalid, NotFound
from services.kit.logged import Head, Logged, note, noted
from services.kit.payloads import Columns, Decisions, Opening, Payload, Payloads, decisions, features
from services.kit.profiles import numeric
from services.kit.stream import Record
from services.kit.strict import refused

from ..domain.comparison.answers import Answers, groups_of
from ..domain.latency import LatencyCounts
from ..domain.outcomes.apart import Apart
from ..domain.windows import moment, window_start
from ..store import comparison as store
from ..store.comparison import Pairing
from .summary import Array
from .versions import Glance, Versions, Watched

Letters = list[tuple[Record, BaseException | str]]

_COMPARED = "compared"


@dataclass(slots=True)
class Pair:
    """A record of a shadow and what it says that callers were told."""

    head: Head
    answered: Answered
    said: Payload | None = None
    told: Payload | None = None
    """None of both: not logged, or the shadow failed."""


class Comparing:
    """Counts a batch's shadows, in the transaction of the batch."""

    def __init__(self, versions: Versions, payloads: Payloads) -> None:
        self._versions, self._payloads = versions, payloads

    async def count(
        self, tx: Tx, partition: int, copies: Sequence[Logged], versions: Glance, opening: Opening, letters: Letters
    ) -> None:
        """Records of shadows that no repeat is among, but for replayed dead letters, which are known by their ids."""
        pairs = await self._unknown(tx, copies, versions, opening, letters)
        groups: dict[Pairing, list[Pair]] = defaultdict(list)
        for pair in pairs:
            groups[self._pairing(pair)].append(pair)
        if not groups:
            return
        found = await store.known(tx.session, Answers, groups, partition)
        for pairing, members in groups.items():
            watched = await versions.find(pairing.endpoint, pairing.version)
            against = await versions.find(pairing.endpoint, pairing.against)
            counts = found.setdefault(pairing, Answers(apart=Apart(watched.meaning.classes)))
            counts.merge(compared(watched, against, members))
        await store.save(tx.session, found, partition)

    async def _unknown(
        self, tx: Tx, copies: Sequence[Logged], versions: Glance, opening: Opening, letters: Letters
    ) -> list[Pair]:
        """Each but once: a record that could not be read was not counted, so that its replay is."""
        replays = {str(each.body.get("inference_id")): each for each in copies if each.replayed}
        done = await noted(tx.session, _COMPARED, list(replays))
        fresh = [each for each in copies if not each.replayed]
        again = [each for id, each in replays.items() if id not in done]
        told = self._payloads.begin()  # a bound of its own: one record alone is never too much
        pairs = [pair for each in (*fresh, *again) if (pair := await _opened(each, versions, opening, told, letters))]
        await note(tx.session, _COMPARED, [p.head.inference_id for p in pairs if p.head.inference_id in replays])
        return pairs

    def _pairing(self, pair: Pair) -> Pairing:
        origin = pair.head.origin
        length = self._versions.settings(origin.endpoint).outcome_window_s
        start = window_start(pair.head.at_s, length)
        return Pairing(
            origin.endpoint, origin.version, origin.variant, pair.answered.version, origin.unit, moment(start),
            moment(start + length),
        )  # fmt: skip


async def _opened(
    logged: Logged, versions: Glance, opening: Opening, told: Opening, letters: Letters
) -> Pair | None:  # fmt: skip
    try:
        head, answered = logged.head(), Answered.model_validate(logged.body["answered"])
        pair = Pair(head, answered)
        if head.failed is None and answered.response is not None and logged.body.get("sampled") is not False:
            watched = await versions.find(head.origin.endpoint, head.origin.version)
            against = await versions.find(head.origin.endpoint, answered.version)
            pair.said = await opening.open(logged, watched.schema)
            body = {"request": {}, "response": answered.response, "rows": head.rows}
            pair.told = await told.open(Logged(logged.record, body, "", 0, False), against.schema)
        return pair
    except ValidationError as error:
        reason = refused(error.errors(include_url=False, include_input=False), root="answered")
        letters.append((logged.record, reason))
    except (Invalid, NotFound, KeyError, TypeError, ValueError) as error:
        letters.append((logged.record, error))
    return None


def compared(watched: Watched, against: Watched, pairs: Sequence[Pair]) -> Answers:
    """What both versions said of the same requests; rows that do not fit their schema are not known."""
    made = Answers(apart=Apart(watched.meaning.classes))
    both = [pair for pair in pairs if pair.head.failed is None]
    made.requests = len(both)
    made.told_ms = LatencyCounts.of([pair.answered.latency_ms for pair in both])
    made.said_ms = LatencyCounts.of([pair.head.latency_ms for pair in both])
    for pair in pairs:
        if pair.head.failed is not None:
            made.fail(pair.head.failed, pair.head.rows)
    seen = [pair for pair in both if pair.said is not None and pair.told is not None]
    made.unknown = sum(pair.head.rows for pair in both) - sum(pair.head.rows for pair in seen)
    if seen and (watched.meaning.task == "regression") != (against.meaning.task == "regression"):
        made.unknown += sum(pair.head.rows for pair in seen)
    elif seen:
        _count(made, watched, against, seen)
    return made


def _count(made: Answers, watched: Watched, against: Watched, pairs: Sequence[Pair]) -> None:
    try:
        columns, said, told = _read(watched, against, pairs)
    except Invalid:
        if len(pairs) == 1:
            made.unknown += pairs[0].head.rows
            return
        for pair in pairs:
            _count(made, watched, against, [pair])
        return
    groups = {
        name: groups_of(grouping, columns[name]) for name, grouping in watched.meaning.groupings.items()
        if grouping.declared and name in columns
    }  # fmt: skip
    if watched.meaning.task == "regression":
        made.count_numbers(numeric(told.prediction), numeric(said.prediction), groups)
    else:
        both = watched.meaning.task == against.meaning.task == "binary"  # of more classes each tells another one's
        scores = _scores(told, said) if both else None
        made.count_classes(watched.meaning.task, told.prediction, said.prediction, scores, groups)


def _read(watched: Watched, against: Watched, pairs: Sequence[Pair]) -> tuple[Columns, Decisions, Decisions]:
    if watched.schema is None or against.schema is None:
        raise Invalid("a version that no deployment names has no decisions", "version")
    said = [pair.said for pair in pairs if pair.said is not None]
    told = [pair.told for pair in pairs if pair.told is not None]
    return features(watched.schema, said), decisions(watched.schema, said), decisions(against.schema, told)


def _scores(told: Decisions, said: Decisions) -> tuple[Array, Array] | None:
    return None if told.score is None or said.score is None else (told.score, said.score)
