"""What the deployer and the scorer would say, for tests of those who listen."""

import io
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
from sqlalchemy import text

from contracts import AlertRaised, AlertResolved, DeploymentChanged, InferenceLogged, ModelSchema, MonitorSettings
from services.kit.cloudevents import headers
from services.kit.context import Context, system
from services.kit.db import Database
from services.kit.ids import uuid7
from services.kit.kafka import Connection
from services.kit.letters import DeadLetters, Letter
from services.kit.objects import Objects
from services.kit.producer import Outgoing, Producer
from services.kit.settings import Settings

EXAMPLES = Path(__file__).resolve().parents[2] / "contracts" / "examples"


def fresh(kind: str = "endpoint") -> str:
    return f"{kind}-{uuid4().hex[:12]}"


def deployment(
    endpoint: str,
    schema: ModelSchema,
    baseline: str | None,
    *,
    version: int = 1,
    revision: int = 1,
    unit: str = "retail",
    monitor: MonitorSettings | None = None,
    state: str = "serving",
    model: str = "census-employment",
) -> DeploymentChanged:
    said: dict[str, Any] = orjson.loads((EXAMPLES / "deployment.changed.json").read_bytes())["data"]
    said["variants"][0] |= {
        "model": model, "version": version, "model_schema": schema.model_dump(mode="json"), "baseline_digest": baseline,
    }  # fmt: skip
    settings = (monitor or MonitorSettings(window_s=10.0, budget_rows=100_000)).model_dump(mode="json")
    said |= {"endpoint": endpoint, "unit": unit, "revision": revision, "monitor": settings, "state": state}
    return DeploymentChanged.model_validate(said)


def logged(
    endpoint: str,
    rows: np.ndarray,
    seq: int,
    at: datetime,
    *,
    version: int = 1,
    writer: str | None = None,
    unit: str = "retail",
    entity: str | None = None,
    width: int = 5,
    mode: str = "rest",
) -> dict[str, Any]:
    """A record of some rows: features, then the prediction."""
    data = [None if value != value else value for value in rows[:, :width].ravel().tolist()]
    labels = rows[:, width].astype(int).tolist()
    scores = [share for label in labels for share in ((0.9, 0.1) if label == 0 else (0.2, 0.8))]
    return {
        "inference_id": str(uuid7()), "endpoint": endpoint, "unit": unit, "use_case": "benefits",
        "model": "census-employment", "version": version, "variant": "champion", "mode": mode,
        "application": "application", "entity": entity, "request_id": None, "writer": writer or f"of-{endpoint}",
        "seq": seq,
        "received_at": at.isoformat(), "latency_ms": 0.8, "rows": len(rows),
        "request": {"inputs": [{"name": "X", "datatype": "FP32", "shape": [len(rows), width], "data": data}]},
        "response": {
            "model_name": endpoint, "model_version": str(version), "outputs": [
                {"name": "label", "datatype": "INT64", "shape": [len(rows)], "data": labels},
                {"name": "probabilities", "datatype": "FP32", "shape": [len(rows), 2], "data": scores},
            ],
        },
    }  # fmt: skip


def outgoing(record: dict[str, Any]) -> Outgoing:
    context = Context(system("scorer", record["unit"]))
    about = headers(InferenceLogged, "scorer", record["endpoint"], context, record["unit"], id=record["inference_id"])
    return InferenceLogged.topic.name, record["inference_id"].encode(), orjson.dumps(record), about


async def say_deployment(settings: Settings, event: DeploymentChanged) -> None:
    about = headers(DeploymentChanged, "deployer", event.endpoint, Context(system("deployer")), event.unit)
    async with Producer(settings) as producer:
        await producer.send_all([(DeploymentChanged.topic.name, event.endpoint.encode(), event.to_json(), about)])


async def say_logged(settings: Settings, records: list[dict[str, Any]]) -> None:
    async with Producer(settings) as producer:
        await producer.send_all([outgoing(record) for record in records])


def referring(record: dict[str, Any], digest: str) -> dict[str, Any]:
    """The record with its request in the object store."""
    reference = {"digest": digest, "media_type": "application/json", "first_row": 0, "rows": record["rows"]}
    return record | {"request": {"reference": reference}}


async def as_batch(objects: Objects, records: list[dict[str, Any]], columns: list[str]) -> list[dict[str, Any]]:
    """The records as those of a batch: chunks of one uploaded file, each with a file of its own answers."""
    sheet = np.concatenate([np.array(_data(record["request"]["inputs"][0]), float) for record in records])
    values = sheet.reshape(-1, len(columns))
    digest = await _parquet(objects, {name: values[:, place] for place, name in enumerate(columns)})
    made: list[dict[str, Any]] = []
    first = 0
    for record in records:
        labels, scores = map(_data, record["response"]["outputs"])
        answered = await _parquet(objects, {"prediction": labels, "score": scores[1::2]})
        rows = record["rows"]
        request, response = _reference(digest, first, rows), _reference(answered, 0, rows)
        made.append(record | {"mode": "batch", "request": request, "response": response})
        first += rows
    return made


def _data(tensor: dict[str, Any]) -> list[Any]:
    return tensor["data"]


def _reference(digest: str, first: int, rows: int) -> dict[str, Any]:
    kind = "application/vnd.apache.parquet"
    return {"reference": {"digest": digest, "media_type": kind, "first_row": first, "rows": rows}}


async def _parquet(objects: Objects, columns: dict[str, Any]) -> str:
    file = io.BytesIO()
    pq.write_table(pa.table(columns), file, row_group_size=1_000)
    return await objects.put(file.getvalue())


async def buried(settings: Settings, service: str, topic: str, ids: Iterable[str]) -> list[Letter]:
    """A service's dead letters of some records, by their keys, as the console reads them."""
    console = Connection.read(settings.home / "secrets" / "kafka" / "console.properties")
    keys = {id.encode() for id in ids}
    waiting, _ = await DeadLetters(console).waiting([f"dlq.{topic}"], 1_000)
    return [letter for letter in waiting if letter.service == service and letter.record.key in keys]


async def replay(settings: Settings, letters: Iterable[Letter]) -> None:
    """Give dead letters to their service again, as the console does."""
    await DeadLetters(Connection.read(settings.home / "secrets" / "kafka" / "console.properties")).replay(letters)


def spread(rows: np.ndarray, size: int, start: datetime, seconds: float) -> list[tuple[np.ndarray, datetime]]:
    """Rows in requests of `size`, evenly over some seconds from `start`."""
    parts = np.split(rows, range(size, len(rows), size))
    return [(part, start + timedelta(seconds=seconds * place / len(parts))) for place, part in enumerate(parts)]


def aligned(seconds_ago: float, window_s: float = 10.0) -> datetime:
    """The start of a window that began at least so long ago."""
    at = datetime.now(UTC).timestamp() - seconds_ago
    return datetime.fromtimestamp(at // window_s * window_s, UTC)


async def alerts(db: Database) -> list[AlertRaised | AlertResolved]:
    """What a service said of alerts so far."""
    kinds = {"alert.raised": AlertRaised, "alert.resolved": AlertResolved}
    select = "SELECT topic, value FROM outbox WHERE topic = ANY(:topics) ORDER BY number"
    async with db.chassis() as session:
        rows = await session.execute(text(select), {"topics": list(kinds)})
        return [kinds[row.topic].from_json(row.value) for row in rows]
