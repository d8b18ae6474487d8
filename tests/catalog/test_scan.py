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
from services.catalog.scan.contents import Contents
from services.kit.errors import Invalid

from . import models


class Evil:
    def __reduce__(self) -> Any:
        import os

        return os.system, ("id",)


EVIL = pickle.dumps(Evil())
ONNX = Manifest.model_validate({"name": "credit", "format": "onnx", "model": "model.onnx"})


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


def tarred(data: bytes, kind: bytes = tarfile.REGTYPE) -> bytes:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as to:
        info = tarfile.TarInfo("a.pkl")
        info.size, info.type = len(data), kind
        to.addfile(info, io.BytesIO(data))
    return archive.getvalue()


def array_of_objects() -> bytes:
    data = io.BytesIO()
    np.save(data, np.array([Evil()], object))
    return data.getvalue()


def headed(descr: str, data: bytes = EVIL, shape: str = "(1,)") -> bytes:
    """An array of numpy's, with a header in words of our own."""
    header = f"{{'fortran_order': False, 'descr': {descr}, 'shape': {shape}}}\n".encode()
    return b"\x93NUMPY\1\0" + len(header).to_bytes(2, "little") + header + data


def saved(*arrays: Any) -> bytes:
    data = io.BytesIO()
    for each in arrays:
        np.save(data, each)
    return data.getvalue()


def zipped_folder(name: str, data: bytes) -> bytes:
    return zipped(**{name[:-1] + "_": data}).replace(name[:-1].encode() + b"_", name.encode())


HIDDEN = {
    "in a zip in a zip": zipped(inner=zipped(weights=EVIL)),
    "gzipped": gzip.compress(EVIL),
    "bzipped": bz2.compress(EVIL),
    "as joblib compresses": zlib.compress(EVIL),
    "in a tar.gz": gzip.compress(tarred(EVIL)),
    "in an array of objects": array_of_objects(),
    "in the old form, which is text": pickle.dumps(Evil(), protocol=0),
    "after a harmless one": pickle.dumps(1) + EVIL,
    "in the old form, with a byte that is no text": b"cos\nsystem\nq\xff(Vid\ntR.",
    "with its names on the stack, as text": "Vos\nVsystem\nq\xc2\x93(Vid\ntR.".encode("latin-1"),
    "without its magic": EVIL[2:],
    "after a number in hexadecimal": b"I0x10\n0cos\nsystem\n(Vid\ntR.",
    "after a number that looks like a program": b"MZ\x900cos\nsystem\n(Vid\ntR.",
    "after a name with a space": b"c__main__\na b\n0cos\nsystem\n(Vid\ntR.",
    "by __new__": b"csubprocess\nPopen\n(Vid\nt\x81.",
    "by __setstate__": b"cos\nsystem\nVid\nb.",
    "with protocol 0 in its magic": b"\x80\x00cos\nsystem\n(Vid\ntR.",
    "with protocol 1 in its magic": b"\x80\x01" + pickle.dumps(Evil(), protocol=1),
    "in an array, its order first": headed("'|O'"),
    "in an array of 'object'": headed("'object'"),
    "in an array, its type escaped": headed(r"'|\x4f'"),
    "in an array of records": headed("[('a', '<f8'), ('b', '|O')]"),
    "behind an array": saved(np.arange(3)) + EVIL,
    "in an array behind others": saved(*[np.arange(3)] * 9, np.array([Evil()], object)),
    "in a folder of a zip": zipped_folder("x.pkl/", EVIL),
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
    "an array whose header is none": b"\x93NUMPY\1\0\5\0{1: 2",
    "an array of a type that is none": headed("()"),
    "an array that is cut": headed("'<f8'", EVIL, "(999,)"),
    "an array of fewer than no numbers": headed("'<f8'", EVIL, "(-1,)"),
    "a tar with a file of another kind": tarred(EVIL, tarfile.CONTTYPE),
    "a tar with a link": tarred(b"", tarfile.SYMTYPE),
    "a tar with a folder that has content": tarred(tarred(EVIL), tarfile.DIRTYPE),
    "a pickle that ends early": b"\x80\x04" + pickle.dumps(list("abc"))[2:-4],
}


@pytest.mark.parametrize("what", PAST_LOOKING)
def test_what_may_hide_a_pickle_and_cannot_be_read_is_not_clean(what: str, tmp_path: Path) -> None:
    assert scanned(tmp_path, {"data": PAST_LOOKING[what]}).verdict == "incomplete"


def test_what_archives_inflate_to_is_charged_whether_it_fits_or_not(tmp_path: Path) -> None:
    models.laid_out(tmp_path, {"data": zipped(a=b"1" * 1000, b=b"2" * 1000, c=b"3" * 1000, d=b"4" * 1000)})
    contents = Contents(left=1500)
    names = [each.name for each in contents.of(tmp_path / "data", "data")]
    assert names == ["data", "data!a", "data!b, which is too large,", "data, of which the rest is too large,"]
    assert contents.left <= 0
    assert [each.data for each in contents.of(tmp_path / "data", "more")] == [b"", None]


LARGE = {
    "weights.h5": (b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
    "notes.ipynb": (b'{"cells": []}', "a notebook, which nothing here runs"),
    "blob": (b"\0\xff", "of more than 268435456 bytes, of no kind that is known here"),
}


def stretched(path: Path, data: bytes, end: bytes = b"", size: int = 257 << 20) -> None:
    """A file with a hole, which takes no room."""
    with path.open("wb") as file:
        file.write(data)
        file.truncate(size)
        file.seek(0, io.SEEK_END)
        file.write(end)


@pytest.mark.parametrize("name", LARGE)
def test_a_large_file_of_what_is_not_looked_into_is_told_and_does_not_hinder(name: str, tmp_path: Path) -> None:
    stretched(tmp_path / name, LARGE[name][0])
    found = scan(tmp_path, [name], ONNX, [])
    assert found.verdict == "clean" and found.not_looked_at == (f"{name}: {LARGE[name][1]}",)


def test_a_large_array_is_judged_by_its_header(tmp_path: Path) -> None:
    numbers = headed("'|u1'", b"", f"({256 << 20},)")
    stretched(tmp_path / "large.npy", numbers, size=len(numbers) + (256 << 20))
    found = scan(tmp_path, ["large.npy"], ONNX, [])
    assert found.verdict == "clean" and found.looked_at == ("large.npy: plain numbers",)
    stretched(tmp_path / "large.npy", numbers, EVIL, size=len(numbers) + (256 << 20))
    assert scan(tmp_path, ["large.npy"], ONNX, []).verdict == "malicious"


def test_a_large_pickle_or_a_large_lambda_layer_is_not_clean(tmp_path: Path) -> None:
    stretched(tmp_path / "data", EVIL[2:])
    assert scan(tmp_path, ["data"], ONNX, []).verdict == "incomplete"
    stretched(tmp_path / "data", b"\x89HDF\r\n\x1a\n", b'{"class_name": "Lambda"}')
    assert scan(tmp_path, ["data"], ONNX, []).verdict == "suspicious"


def test_names_that_read_as_the_beginning_of_a_pickle_are_text(tmp_path: Path) -> None:
    lists = ["city\ncountry\nbalance\n", "credit\nmodel\nRegion\n", "class Foo\nbar\n", "id\nincome\nobject\n"]
    found = scanned(tmp_path, {f"{n}": each.encode() for n, each in enumerate(lists)}, "onnx")
    assert found.verdict == "clean" and len(found.not_looked_at) == len(lists)


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
