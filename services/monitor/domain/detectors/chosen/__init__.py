"""Detectors that an operator may choose beside the monitor's own: those of river, each in its file with its paper."""

from importlib import import_module
from typing import Literal

from .base import Sequential

_FILES = {
    "adwin": "adwin", "page-hinkley": "page_hinkley", "kswin": "kswin", "ddm": "ddm", "eddm": "eddm",
    "fhddm": "fhddm", "hddm-a": "hddm_a", "hddm-w": "hddm_w",
}  # fmt: skip
COLUMNS, LABELS = ("adwin", "page-hinkley", "kswin"), ("ddm", "eddm", "fhddm", "hddm-a", "hddm-w")
Sees = Literal["columns", "labels"]


def kind(name: str) -> type[Sequential]:
    """Its class. Imported where it is chosen: river takes seconds and many megabytes."""
    return import_module(f"{__name__}.{_FILES[name]}").Detector


def chosen(names: tuple[str, ...], sees: Sees) -> tuple[str, ...]:
    """Those of some names that see columns or labels; a name that only a later version knows is none."""
    return tuple(name for name in (COLUMNS if sees == "columns" else LABELS) if name in names)
