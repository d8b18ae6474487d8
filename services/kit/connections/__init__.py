"""Connections: the only places outside that this platform calls, as an administrator named and allowed them."""

from .kinds import HttpsConnection, ObjectsConnection, UrlPath
from .mail import Address, SmtpConnection
from .registry import Connections

__all__ = ["Address", "Connections", "HttpsConnection", "ObjectsConnection", "SmtpConnection", "UrlPath"]
