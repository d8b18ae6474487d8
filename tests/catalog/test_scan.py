"""What the scan finds, what it says that it looked at, and what it says that it did not."""

import bz2
import gzip
import io
import json
import pickle
import tarfile
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from contracts import Format, Scan
from services.catalog.domain import Manifest
from services.catalog.scan import scan
from services.kit.errors import Invalid

from . import models


class Evil:
    def __reduce__(self) -> Any:
        import os

        return os.system, ("id",)


EVIL = pickle.dumps(Evil())


def scanned(folder: Path, files: dict[str, bytes], format: Format = "python", **said: Any) -> Scan:
    more = {"python": {"model": "model.py"}, "mlflow": {"model": "MLmodel"}, "onnx": {"model": "model.onnx"}}
    manifest = Manifest.model_validate({"name": "credit", "format": format, **more[format], **said})
    return scan(folder, models.laid_out(folder, files), manifest, [])


def zipped(**members: bytes) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        for name, each in members.items():
            archive.writestr(name, each)
    return data.getvalue()


def tarred(data: bytes) -> bytes:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as to:
        info = tarfile.TarInfo("a.pkl")
        info.size = len(data)
        to.addfile(info, io.BytesIO(data))
    return archive.getvalue()


def array_of_objects() -> bytes:
    data = io.BytesIO()
    np.save(data, np.array([Evil()], object))
    return data.getvalue()


HIDDEN = {
    "in a zip in a zip": zipped(inner=zipped(weights=EVIL)),
    "gzipped": gzip.compress(EVIL),
    "bzipped": bz2.compress(EVIL),
    "as joblib compresses": zlib.compress(EVIL),
    "in a tar.gz": gzip.compress(tarred(EVIL)),
    "in an array of objects": array_of_objects(),
    "in the old form, which is text": pickle.dumps(Evil(), protocol=0),
    "after a harmless one": pickle.dumps(1) + EVIL,
}


@pytest.mark.parametrize("format", ["python", "onnx"])
@pytest.mark.parametrize("how", HIDDEN)
def test_a_pickle_is_found_however_it_is_packed(how: str, format: Format, tmp_path: Path) -> None:
    found = scanned(tmp_path, {"data": HIDDEN[how]}, format)
    assert found.verdict == "malicious" and found.findings[0].startswith("data"), found


PAST_LOOKING = {
    "an archive that is cut": zipped(a=b"1" * 1000)[:-60],
    "a compressed file that is cut": gzip.compress(bytes(range(256)) * 9)[:-40],
    "archives without end": zipped(a=zipped(a=zipped(a=zipped(a=zipped(a=EVIL))))),
    "a pickle that ends early": b"\x80\x04" + pickle.dumps(list("abc"))[2:-4],
}


@pytest.mark.parametrize("what", PAST_LOOKING)
def test_what_may_hide_a_pickle_and_cannot_be_read_is_not_clean(what: str, tmp_path: Path) -> None:
    assert scanned(tmp_path, {"data": PAST_LOOKING[what]}).verdict == "incomplete"


@pytest.mark.parametrize("data", [
    zipped(**{"config.json": json.dumps({"layers": [{"class_name": "Lambda"}]}).encode()}),
    b"\x89HDF\r\n\x1a\n" + b'{"class_name": "Lambda", "config": {}}',
])  # fmt: skip
def test_a_lambda_layer_of_a_keras_model_is_code(data: bytes, tmp_path: Path) -> None:
    found = scanned(tmp_path, {"model.keras": data}, "mlflow")
    assert found.verdict == "suspicious" and "Lambda" in found.findings[0]


def test_python_is_read_beside_any_model_for_its_recipe_may_import_it(tmp_path: Path) -> None:
    found = scanned(tmp_path, {"helper.py": b"import socket\n"}, "onnx")
    assert found.verdict == "suspicious" and found.findings == ("helper.py imports socket",)
    packed = scanned(tmp_path, {"code.egg": zipped(**{"helper.py": b"import socket\n"})})
    assert packed.findings == ("code.egg!helper.py imports socket",)


def test_code_that_is_no_python_is_refused_in_a_model_that_is_code(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="is not Python"):
        scanned(tmp_path, {"model.py": b"def ("})


CLOSED = {
    "fast.so": (b"\x7fELF\2\1\1" + bytes(64), "a native program or library"),
    "run.sh": (b"#!/bin/sh\nid\n", "a script"),
    "cache.pyc": (b"\xcb\r\r\n" + bytes(16), "compiled Python"),
    "notes.ipynb": (b'{"cells": []}', "a notebook, which nothing here runs"),
    "weights.h5": (b"\x89HDF\r\n\x1a\n" + bytes(40), "an HDF5 file"),
    "notes.txt": (b"credit\nmodel\n", "plain text"),
    "Model.java": (b"import java.util.List;\nimport java.util.Map;\n", "plain text"),
    "blob": (b"\0\xff\xfe\xfd", "of no kind that is known here"),
}


def test_what_is_not_looked_into_is_told_by_name_and_kind(tmp_path: Path) -> None:
    files = {"model.py": b"def predict(inputs):\n    return inputs\n", "lookup.pkl": pickle.dumps({"a": 1})}
    found = scanned(tmp_path, {**files, **{name: data for name, (data, _) in CLOSED.items()}})
    assert found.verdict == "clean" and found.findings == ()
    assert found.looked_at == ("model.py: read as Python", "lookup.pkl: what it calls, as a pickle")
    assert found.not_looked_at == tuple(f"{name}: {told}" for name, (_, told) in CLOSED.items())


def test_libraries_of_a_lock_and_whole_functions_in_a_pickle_are_not_looked_at(tmp_path: Path) -> None:
    import cloudpickle

    def predict(x: int) -> int:
        return x + 1

    files = {"python_model.pkl": cloudpickle.dumps(predict), "requirements.lock": b"numpy==2.0.0 --hash=sha256:00"}
    found = scanned(tmp_path, files, "mlflow", requirements="requirements.lock")
    assert found.not_looked_at == (
        "python_model.pkl: the code of functions that are pickled whole",
        "requirements.lock: the libraries that it names, and what is known against them",
    )


def test_members_of_an_archive_that_nobody_looks_at_are_counted(tmp_path: Path) -> None:
    found = scanned(tmp_path, {"data.zip": zipped(a=b"\0\xff1", b=b"\0\xff2", c=b"text")})
    assert found.not_looked_at == (
        "data.zip: 2 of its 3 members: of no kind that is known here",
        "data.zip: 1 of its 3 members: plain text",
    )
    assert found.looked_at == ("data.zip: what is packed in it",)


def test_of_very_many_files_the_rest_is_counted(tmp_path: Path) -> None:
    found = scanned(tmp_path, {f"n{n:03}.txt": b"a" for n in range(60)})
    assert len(found.not_looked_at) == 51 and found.not_looked_at[-1] == "and 10 more"
