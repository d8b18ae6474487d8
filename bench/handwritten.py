"""The limit of streaming: what a careful engineer writes for this one model: prebuilt batches in transactions.

`python -m bench.handwritten PROPERTIES MODEL REQUESTED COMPLETED LOGGED ROWS`: says "ready" where the rows begin, and
ends after that many.
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import orjson
import uvloop
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from services.kit.kafka import Connection

_NAMES = ("label", "probabilities")
_MOST = 5_000


async def main(connection: Connection, model: bytes, requested: str, completed: str, logged: str, rows: int) -> None:
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    client = connection.aiokafka()
    group = f"scorer.hand.{requested}"
    consumer = AIOKafkaConsumer(
        requested, **client, group_id=group, enable_auto_commit=False, auto_offset_reset="earliest",
        isolation_level="read_committed", max_partition_fetch_bytes=4 * 1024 * 1024,
    )  # fmt: skip
    producer = AIOKafkaProducer(**client, transactional_id=group, max_batch_size=900_000)
    async with consumer, producer:
        print("ready", flush=True)
        done = 0
        while done < rows:
            for tp, records in (await consumer.getmany(timeout_ms=500, max_records=_MOST)).items():
                await _batch(producer, session, tp, records, completed, logged, group)
                done += len(records)


async def _batch(
    producer: AIOKafkaProducer, session: ort.InferenceSession, tp: TopicPartition, records: list[Any], completed: str,
    logged: str, group: str,
) -> None:  # fmt: skip
    tensors = [orjson.loads(record.value)["inputs"][0] for record in records]
    matrix = np.array([tensor["data"] for tensor in tensors], np.float32)
    labels, probabilities = map(np.asarray, session.run(_NAMES, {"X": matrix}))
    answers, logs = [producer.create_batch()], [producer.create_batch()]
    for record, label, score in zip(records, labels.tolist(), probabilities.tolist(), strict=True):
        outputs = [
            {"name": "label", "datatype": "INT64", "shape": [1], "data": [label]},
            {"name": "probabilities", "datatype": "FP32", "shape": [1, 2], "data": score},
        ]
        answer = orjson.dumps({"model_name": "hand", "model_version": "1", "outputs": outputs})
        _append(producer, answers, record.key, answer)
        _append(producer, logs, record.key, b'{"request":' + record.value + b',"response":' + answer + b"}")
    async with producer.transaction():
        sent = [await producer.send_batch(one, completed, partition=tp.partition) for one in answers]
        sent += [await producer.send_batch(one, logged, partition=tp.partition) for one in logs]
        for future in sent:
            await future
        await producer.send_offsets_to_transaction({tp: records[-1].offset + 1}, group)


def _append(producer: AIOKafkaProducer, batches: list[Any], key: bytes | None, value: bytes) -> None:
    if batches[-1].append(timestamp=None, key=key, value=value) is None:
        batches.append(producer.create_batch())
        batches[-1].append(timestamp=None, key=key, value=value)


if __name__ == "__main__":
    paths, topics, count = sys.argv[1:3], sys.argv[3:6], int(sys.argv[6])
    connection, model = Connection.read(Path(paths[0])), Path(paths[1]).read_bytes()
    uvloop.run(main(connection, model, topics[0], topics[1], topics[2], count))
