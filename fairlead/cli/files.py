"""What people hand over in files: rows to score, outcomes to report. What is wrong is named by row and column."""

import csv
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
from typer import BadParameter

from fairlead.errors import Invalid
from fairlead.rows import Cell


def rows(given: str) -> Any:
    """Rows from the command line, from standard input or from a file. Raises `Invalid`."""
    if given == "-":
        return _json(_text(None), "standard input")
    if given.lstrip().startswith(("{", "[")):
        return _json(given.encode(errors="surrogateescape"), "the argument")
    path = Path(given)
    if path.suffix != ".csv":
        return _json(_text(path), given)
    return [{name: Cell(value) for name, value in row.items()} for _, row in _csv(path)]


def outcomes(path: Path) -> list[dict[str, Any]]:
    """Outcomes from a JSON or CSV file with `inference_id`, `row`, `label`, `value`. Raises `Invalid`."""
    if path.suffix != ".csv":
        listed = rows(str(path))
        return listed if isinstance(listed, list) else [listed]
    return [_outcome(number, row) for number, row in _csv(path)]


def _outcome(number: int, row: dict[str, str]) -> dict[str, Any]:
    told: dict[str, Any] = {"inference_id": row.get("inference_id", "").strip()}
    if not told["inference_id"]:
        raise _wrong(number, "inference_id", "is missing")
    if row.get("row"):
        if not row["row"].strip().isdecimal():
            raise _wrong(number, "row", f"is {row['row'][:40]!r}, not a whole number from 0")
        told["row"] = int(row["row"])
    if row.get("label"):
        told["label"] = number_or_text(row["label"])
    if row.get("value"):
        told["value"] = number_or_text(row["value"])
        if isinstance(told["value"], str):
            raise _wrong(number, "value", f"is {told['value'][:40]!r}, not a number")
    if "label" not in told and "value" not in told:
        raise _wrong(number, "label", "is missing, and so is the value: an outcome has one of them")
    return told


def number_or_text(text: str) -> float | str:
    """A finite number where the text is one; NaN and infinity are no JSON and stay text, for the platform to refuse."""
    try:
        number = float(text)
    except ValueError:
        return text
    return number if math.isfinite(number) else text


def _csv(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """The rows of a CSV file with their numbers, from 1; the heading counts as none."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            for number, row in enumerate(csv.DictReader(file, restkey="", strict=True), 1):
                if "" in row:
                    raise Invalid(
                        f"row {number}: it has more cells than the heading has columns", field=f"row {number}"
                    )
                if short := next((name for name, value in row.items() if value is None), None):
                    raise _wrong(number, short, "is missing: the row is too short")
                yield number, row
    except OSError as error:
        raise Invalid(f"cannot read {path}: {error.strerror}", field="rows") from error
    except (csv.Error, UnicodeDecodeError) as error:
        raise Invalid(f"{path} is not CSV in UTF-8: {error}", field="rows") from error


def _wrong(number: int, column: str, what: str) -> Invalid:
    return Invalid(f"row {number}, column {column}: it {what}", field=f"row {number}, column {column}")


def _text(path: Path | None) -> bytes:
    try:
        return sys.stdin.buffer.read() if path is None else path.read_bytes()
    except OSError as error:
        raise BadParameter(f"cannot read {path or 'standard input'}: {error.strerror}") from error


def _json(text: bytes, where: str) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise Invalid(f"rows: {where} is not JSON: {error}", field="rows") from error
