"""Detectors that an operator may choose beside the monitor's own: those of river, each in its file with its paper."""

from importlib import import_module
from typing import Literal

from .base import Sequential

COLUMNS, LABELS = ("adwin", "page-hinkley", "kswin"), ("ddm", "eddm", "fhddm", "hddm-a", "hddm-w")
Sees = Literal["columns", "labels"]


def kind(name: str) -> type[Sequential]:
    """Its class. Imported where it is chosen: river takes seconds and many megabytes."""
    return import_module(f"{__name__}.{name.replace('-', '_')}").Detector


def chosen(names: tuple[str, ...], sees: Sees) -> tuple[str, ...]:
    """Those of some names that see columns or labels; a name that only a later version knows is none."""
    return tuple(name for name in (COLUMNS if sees == "columns" else LABELS) if name in names)
