"""Connections: the only places outside that this platform calls, as an administrator named and allowed them."""

from .kinds import HttpsConnection, ObjectsConnection, UrlPath
from .registry import Connections

__all__ = ["Connections", "HttpsConnection", "ObjectsConnection", "UrlPath"]
