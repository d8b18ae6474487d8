"""What a file is, by its first bytes alone: no name, no content type, no fallback."""

import re
import zipfile
from pathlib import Path
from typing import Literal

from contracts import Format
from services.kit.errors import Invalid

from .archive import check_directory

Kind = Literal["zip", "gzip"] | Format

_KNOWN_BUT_NOT_TAKEN = (
    (b"\x89HDF\r\n\x1a\n", "a Keras or HDF5 file"),
    (b"GGUF", "a GGUF model"),
    (b"\x7fELF", "a program"),
    (b"MZ", "a program"),
    (b"Rar!", "a RAR archive"),
    (b"7z\xbc\xaf", "a 7z archive"),
    (b"BZh", "a bzip2 archive"),
    (b"\xfd7zXZ", "an xz archive"),
    (b"(\xb5/\xfd", "a zstd archive"),
    (b"PAR1", "a Parquet file"),
    (b"\x93NUMPY", "a numpy array"),
    (b"{", "JSON text"),
)
_MAX_DIRECTORY = 16 * 1024 * 1024
"""A skops file has a member for every array: some hundred for each hundred trees."""

_TAKEN = "ONNX, skops, XGBoost (JSON, UBJSON), LightGBM (text), rules (YAML)"
_XGBOOST = re.compile(rb'\{\s*"(learner|version)"\s*:|\{L.{7}.(learner|version)', re.DOTALL)
"""Both forms begin with one of the two members that every model has: JSON, and UBJSON with an eight-byte length."""

_RULES = re.compile(rb"(\xef\xbb\xbf)?(---[ \t\r]*\n|[ \t\r]*\n|#[^\n]*\n)*(columns|rules|otherwise):")
"""A text has no magic: a table of rules begins with one of its three members, after comments."""

_ONNX_SECOND_FIELDS = frozenset(b"\x12\x1a\x22\x28\x32\x3a\x42\x72\xa2\xca")
"""Tags of the fields of ModelProto that may follow `ir_version`, which comes first in every file."""


def kind_of(path: Path) -> Kind:
    """The kind of a file that is taken. Raises Invalid naming what it is instead."""
    with path.open("rb") as file:
        head = file.read(4096)
    if head.startswith(b"PK\3\4"):
        return "sklearn" if _is_skops(path) else "zip"
    if head.startswith(b"\x1f\x8b"):
        return "gzip"
    if len(head) > 2 and head[0] == 0x08 and 3 <= head[1] <= 20 and head[2] in _ONNX_SECOND_FIELDS:
        return "onnx"
    if _XGBOOST.match(head):
        return "xgboost"
    if head.startswith((b"tree\n", b"tree\r\n")):
        return "lightgbm"
    if _RULES.match(head):
        return "rules"
    raise Invalid(f"package: this is {_name(head)}; taken are {_TAKEN}, and a zip or tar.gz package", "package")


def _name(head: bytes) -> str:
    if not head:
        return "empty"
    if head[0] == 0x80 and head[1:2] in (b"\2", b"\3", b"\4", b"\5"):
        return "a pickle, which runs code when it is opened: save the model with skops or export it to ONNX"
    return next((name for magic, name in _KNOWN_BUT_NOT_TAKEN if head.startswith(magic)), "of no known format")


def _is_skops(path: Path) -> bool:
    """A skops file is a zip with `schema.json`; a package has `fairlead.yaml`."""
    try:
        with path.open("rb") as file:
            check_directory(file, _MAX_DIRECTORY)
            names = set(zipfile.ZipFile(file).namelist())
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return False
    return "schema.json" in names and "fairlead.yaml" not in names
