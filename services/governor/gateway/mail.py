"""Messages by e-mail, sent in threads of their own: smtplib blocks."""

import asyncio
import smtplib
from concurrent.futures import ThreadPoolExecutor
from email.message import EmailMessage
from email.utils import localtime
from uuid import UUID

import orjson

from services.governor.domain.routing import Channel
from services.kit.connections import Connections, SmtpConnection
from services.kit.errors import Invalid

from .errors import Undelivered

_THREADS = 4
"""Of each connection: a server that lets everybody wait has its own threads only."""
_NEVER = range(500, 600)
"""A permanent refusal, by RFC 5321, 4.2.1."""


class Mail:
    """Mail by the connections of the kind `smtp`."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self._threads: dict[str, ThreadPoolExecutor] = {}

    def check(self, channel: Channel, unit: str) -> None:
        """Raises Invalid where nothing could be sent this way, Unavailable for a wrong connection."""
        _allowed(self._connections.smtp(channel.connection, unit), channel)

    async def send(self, channel: Channel, unit: str, id: UUID, body: bytes) -> str:
        """Hand a message over; answers what was not taken for whom. Raises Undelivered, Invalid and Unavailable."""
        connection = self._connections.smtp(channel.connection, unit)
        _allowed(connection, channel)  # the administrator may have changed it
        letter = _letter(connection, channel, id, body)
        loop = asyncio.get_running_loop()
        try:
            refused = await loop.run_in_executor(self._threads_of(connection.name), connection.send, letter, channel.to)
        except smtplib.SMTPAuthenticationError as error:
            raise Undelivered(f"the mail server refuses its login (status {error.smtp_code})") from None
        except smtplib.SMTPRecipientsRefused as error:
            statuses = {status for status, _ in error.recipients.values()}
            raise Undelivered(f"no recipient is taken ({_list(statuses)})", again=not _is_final(statuses)) from None
        except smtplib.SMTPResponseException as error:
            again = error.smtp_code not in _NEVER
            raise Undelivered(f"the mail server answers with status {error.smtp_code}", again=again) from None
        except (smtplib.SMTPException, OSError) as error:
            raise Undelivered(f"it cannot be reached ({type(error).__name__})") from None
        return "; ".join(f"not taken for {address} (status {status})" for address, status in refused.items())

    async def close(self) -> None:
        """What is being sent goes on to its end, or its timeout; nothing new begins."""
        for threads in self._threads.values():
            threads.shutdown(wait=False, cancel_futures=True)

    def _threads_of(self, name: str) -> ThreadPoolExecutor:
        if name not in self._threads:
            self._threads[name] = ThreadPoolExecutor(_THREADS, f"alert-mail-{name}")
        return self._threads[name]


def _allowed(connection: SmtpConnection, channel: Channel) -> None:
    for place, address in enumerate(channel.to):
        if not connection.allows(address):
            raise Invalid(f"to.{place}: connection {connection.name} may not write to {address}", f"to.{place}")


def _letter(connection: SmtpConnection, channel: Channel, id: UUID, body: bytes) -> EmailMessage:
    said = orjson.loads(body)
    letter = EmailMessage()
    letter["From"], letter["To"] = connection.sender, ", ".join(channel.to)
    letter["Subject"] = _line(said["subject"])
    letter["Date"] = localtime()
    letter["Message-ID"] = f"<{id}@{connection.sender.rpartition('@')[2]}>"
    letter["Auto-Submitted"] = "auto-generated"
    letter.set_content(said["text"])
    return letter


def _line(said: str) -> str:
    """A subject of its own: `=?` begins an encoded word, which the header's class decodes, ends of lines included."""
    return " ".join(said.replace("=?", "= ?").split())[:250]


def _is_final(statuses: set[int]) -> bool:
    return all(status in _NEVER for status in statuses)


def _list(statuses: set[int]) -> str:
    return f"status {', '.join(str(status) for status in sorted(statuses))}"
