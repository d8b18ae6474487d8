"""The bare limit of a batch: ONNX Runtime in a plain loop over Arrow batches of a Parquet file, in its own process.

python -m bench.plainloop model.onnx rows.parquet
"""

import json
import sys
import time

import numpy as np
import onnxruntime as ort
import pyarrow.parquet as pq

_CHUNK = 4000


def main(model: str, rows: str) -> None:
    """Prints the seconds of the loop and its processor time as JSON; nothing is checked, kept or logged."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    started, used = time.perf_counter(), time.process_time()
    for batch in pq.ParquetFile(rows).iter_batches(batch_size=_CHUNK):
        matrix = np.column_stack([column.to_numpy(zero_copy_only=False) for column in batch.columns])
        session.run(None, {"X": matrix.astype(np.float32)})
    print(json.dumps({"seconds": time.perf_counter() - started, "cpu_s": time.process_time() - used}))


if __name__ == "__main__":
    main(*sys.argv[1:])
