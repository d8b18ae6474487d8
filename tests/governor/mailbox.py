"""A real SMTP server on loopback that keeps what it takes, with or without TLS, by STARTTLS too, and a login."""

import asyncio
import base64
import ssl
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default


@dataclass
class Mailbox:
    """What it took, and how it answers: `refuses` has a status for an address, or for `MAIL`, `DATA`, `EHLO`."""

    port: int = 0
    letters: list[EmailMessage] = field(default_factory=list[EmailMessage])
    recipients: list[list[str]] = field(default_factory=list[list[str]])
    refuses: dict[str, int] = field(default_factory=dict[str, int])
    logins: list[str] = field(default_factory=list[str])
    starttls: ssl.SSLContext | None = None
    """It takes nothing but under TLS, which begins by STARTTLS (RFC 3207)."""
    silent: bool = False
    """It takes connections and says nothing."""


@asynccontextmanager
async def mailbox(
    trust: ssl.SSLContext | None = None, *, starttls: ssl.SSLContext | None = None
) -> AsyncGenerator[Mailbox]:
    """One that runs until the end of the block."""
    box = Mailbox(starttls=starttls)
    talks: set[asyncio.Task[None]] = set()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        talks.add(task)
        try:
            await _Talk(box, reader, writer).run()
        except (ConnectionError, ssl.SSLError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.close()
            talks.discard(task)

    listening = await asyncio.start_server(talk, "127.0.0.1", 0, ssl=trust)
    box.port = listening.sockets[0].getsockname()[1]
    try:
        yield box
    finally:
        for task in talks:
            task.cancel()
        listening.close()
        await listening.wait_closed()


class _Talk:
    """One connection, by RFC 5321."""

    def __init__(self, box: Mailbox, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._box, self._reader, self._writer = box, reader, writer
        self._to: list[str] = []
        self._is_private = box.starttls is None

    async def run(self) -> None:
        if self._box.silent:
            await asyncio.sleep(3600)
        await self._say("220 mailbox")
        while line := (await self._reader.readline()).decode().strip():
            verb, _, rest = line.partition(" ")
            if verb.upper() == "QUIT":
                await self._say("221 bye")
                return
            await self._say(await self._answer(verb.upper(), rest))
            if verb.upper() == "STARTTLS" and self._box.starttls and not self._box.refuses.get(verb.upper()):
                await self._writer.start_tls(self._box.starttls)
                self._is_private = True

    async def _answer(self, verb: str, rest: str) -> str:
        if status := self._box.refuses.get(verb):
            return f"{status} no"
        if verb == "EHLO" and not self._is_private:
            return "250-mailbox\r\n250 STARTTLS"
        if verb not in ("EHLO", "STARTTLS") and not self._is_private:
            return "530 must issue a STARTTLS command first"
        if verb == "EHLO":
            return "250-mailbox\r\n250 AUTH PLAIN"
        if verb == "STARTTLS":
            return "220 go on" if self._box.starttls else "502 what?"
        if verb == "AUTH":
            self._box.logins.append(base64.b64decode(rest.split()[-1]).decode().strip("\0").replace("\0", ":"))
            return "235 welcome"
        if verb == "RCPT":
            address = rest.partition("<")[2].partition(">")[0]
            if status := self._box.refuses.get(address):
                return f"{status} not here"
            self._to.append(address)
        if verb == "DATA":
            await self._say("354 go on")
            data = await self._reader.readuntil(b"\r\n.\r\n")
            letter = message_from_bytes(data[:-5].replace(b"\r\n..", b"\r\n."), policy=default)
            assert isinstance(letter, EmailMessage)
            self._box.letters.append(letter)
            self._box.recipients.append(self._to)
            self._to = []
        return "250 fine"

    async def _say(self, line: str) -> None:
        self._writer.write(f"{line}\r\n".encode())
        await self._writer.drain()
