"""A version from its bytes to a lane that is open, warm and tried."""

import asyncio
from dataclasses import replace
from functools import partial

from contracts import DeploymentChanged, Variant
from services.kit.errors import Busy, Refusal, Unavailable
from services.kit.telemetry import get_logger

from .endpoints import Endpoint
from .engines import resident
from .failures import Failures
from .lane import Lane, Limits
from .logrecord import Origin
from .metering import Account, Meter
from .packages import Packages
from .residency import Residency
from .runtimes.errors import CannotLoad, ModelFailed
from .runtimes.opening import load
from .served import Served
from .settings import ScorerSettings
from .tokenise import Tokeniser
from .warmup import joinable, sample

log = get_logger(__name__)

_WARM_ROWS = 32
_SESSION_BYTES = 128 * 1024
"""What a model in this process takes beside its file's bytes, at least: seen of ONNX Runtime's smallest, 113 KiB."""


class Loading:
    """Opens versions, warms them up and tries them, before anybody is answered by them."""

    def __init__(self, settings: ScorerSettings, packages: Packages, residency: Residency, meter: Meter) -> None:
        self._settings, self._packages, self._residency, self._meter = settings, packages, residency, meter
        self._tokeniser = Tokeniser.of(settings.keys)
        self._limits = Limits(
            settings.inline_ms,
            settings.batch_rows,
            settings.queue_requests,
            settings.queue_rows,
            settings.cold_load_s,
            settings.sandbox_deadline_s,
        )

    def kept(self, change: DeploymentChanged, variant: Variant, before: Endpoint) -> Served | None:
        """A version of a state as it serves already, or on the lane on which it does: what goes on is decided here
        alone. None: it is to be `loaded`."""
        origin, same = Origin.of(change, variant), before.by_version.get(variant.version)
        if same and same.origin == origin and _lasting(same.variant) == _lasting(variant):
            return same
        if same and same.schema == variant.model_schema and _loaded(same.variant) == _loaded(variant):
            return Served(origin, variant, same.lane, self._tokeniser, self._meter.account(origin))  # promoted, say
        return None

    async def loaded(self, change: DeploymentChanged, variant: Variant) -> Served:
        """A version of a state on a lane of its own. Raises Refusal or CannotLoad."""
        origin = Origin.of(change, variant)
        account = self._meter.account(origin)
        lane = await self._load(variant, origin, account)
        try:
            served = Served(origin, variant, lane, self._tokeniser, account)
            if not lane.asleep:
                await _prove(served)
                self._residency.note(variant)
        except BaseException:
            lane.close()
            raise
        return served

    async def _load(self, variant: Variant, origin: Origin, account: Account) -> Lane:
        """Check the bytes, open the model, warm it up. Raises Refusal or CannotLoad, whatever the bytes are.

        Where memory has a budget, what this host has tried before is opened when it is asked.
        """
        limits = replace(self._limits, inline_ms=0.0) if variant.role == "shadow" else self._limits
        waking = partial(self._wake, variant, origin.unit)
        failures = Failures({"endpoint": origin.endpoint, "model": origin.model, "version": origin.version})
        lane = Lane(None, limits, joinable=joinable(variant.model_schema), waking=waking, failures=failures)
        account.charge(lane)
        if not self._residency.proven(variant):
            try:
                await lane.open()
            except BaseException:
                lane.close()
                raise
        self._residency.add(lane)
        return lane

    async def _wake(self, variant: Variant, unit: str, lane: Lane) -> None:
        await self._residency.load(lane, variant, lambda: self._open(variant, unit, lane))

    async def _open(self, variant: Variant, unit: str, lane: Lane) -> None:
        before = resident()
        try:
            unpacked = partial(self._packages.unpack, variant.digest)
            model = await asyncio.to_thread(lane.clock.run, unpacked)
            runtime = await load(variant.format, model, variant.model_schema, self._settings, unit, lane.clock)
        except (Refusal, CannotLoad):
            raise
        except OSError as error:  # no room, no descriptor: this host's trouble, and no fault of the model's
            raise Unavailable(f"the model cannot be opened now: {error.strerror or error}") from error
        except Exception as error:  # a stranger's bytes make a runtime raise anything
            log.exception("a model could not be opened", model=variant.model, version=variant.version)
            raise CannotLoad(f"the model cannot be opened ({type(error).__name__})") from None
        lane.take(runtime)
        await _warm(lane, variant)
        if hasattr(
            runtime, "predict"
        ):  # memory that others left is taken without a trace, and what loading needed stays
            least = _SESSION_BYTES + model.path.stat().st_size
            lane.inside_bytes = min(max(least, resident() - before), 3 * least)


async def _warm(lane: Lane, variant: Variant) -> None:
    """Raises CannotLoad where the model fails, Unavailable where its process is away."""
    if variant.format == "external":
        return  # there is nothing to warm, and a server that is away must not hold up the rest
    try:
        one, many = sample(variant.model_schema, 1), sample(variant.model_schema, _WARM_ROWS)
        if one is not None and many is not None:
            await lane.warm(one, many, _WARM_ROWS)
    except (Busy, Unavailable):
        raise
    except Refusal as refusal:
        place = f" ({refusal.place})" if isinstance(refusal, ModelFailed) and refusal.place else ""
        raise CannotLoad(f"the model fails at its first call: {refusal.message}{place}") from None
    except Exception as error:  # a model may raise anything
        log.exception("a model could not be warmed up", model=variant.model, version=variant.version)
        raise CannotLoad(f"the model fails at its first calls ({type(error).__name__})") from None


async def _prove(served: Served) -> None:
    """Raises CannotLoad where the model's answers cannot be written, Unavailable where its process is away."""
    if served.variant.format == "external":
        return  # what it answers is read by its schema, so it can be written
    try:
        await served.prove()
    except (Busy, Unavailable):
        raise
    except Refusal as refusal:
        raise CannotLoad(refusal.message) from None
    except Exception as error:  # what a model answers may be anything
        origin = served.origin
        log.exception("a model's answers cannot be written", model=origin.model, version=origin.version)
        raise CannotLoad(f"the model's outputs are not what its schema says ({type(error).__name__})") from None


def _lasting(variant: Variant) -> Variant:
    """A version whatever its share of the requests is."""
    return variant.model_copy(update={"weight": 1.0, "cohorts": ()})


def _loaded(variant: Variant) -> tuple[str, str, bool]:
    """What a lane is of. A shadow's keeps off the event loop."""
    return variant.digest, variant.format, variant.role == "shadow"
