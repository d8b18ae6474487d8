"""What the recorder would say of outcomes, for tests of those who listen."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from contracts import OutcomeObserved
from services.kit.cloudevents import headers
from services.kit.context import Context, system
from services.kit.ids import uuid7
from services.kit.producer import Outgoing, Producer
from services.kit.settings import Settings


def outcome(endpoint: str, label: float | str | None, prediction: float | str | None, **more: Any) -> OutcomeObserved:
    """Of a row of an inference of its own, unless `more` says otherwise."""
    given: dict[str, Any] = {
        "inference_id": str(uuid7()), "row": 0, "label": label, "value": None, "endpoint": endpoint,
        "use_case": "benefits", "model": "census-employment", "version": 1, "variant": "champion",
        "prediction": prediction, "score": None, "entity": None, "segments": {}, "received_at": datetime.now(UTC),
        "observed_at": datetime.now(UTC),
    }  # fmt: skip
    return OutcomeObserved(**(given | more))


def told(event: OutcomeObserved, unit: str = "retail") -> Outgoing:
    about = headers(OutcomeObserved, "recorder", event.key, Context(system("recorder")), unit)
    return OutcomeObserved.topic.name, event.key.encode(), event.to_json(), about


async def tell(settings: Settings, events: Sequence[OutcomeObserved], unit: str = "retail") -> None:
    async with Producer(settings) as producer:
        await producer.send_all([told(event, unit) for event in events])
