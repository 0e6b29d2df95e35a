"""The door of the server: who may come in, and with which view.

The server itself listens on this machine alone. The gate hands every connection on to it, after a look at the head of
its one request: a page of another site is kept out by its `Origin` and `Host`, and where others may come in, a token in
the address is asked for, which a cookie then carries.

Whoever opens the explorer is led to a place of their own, `/v-<twelve letters>/`. The connection that the page then
makes asks for the same place, and so tells whose it is: of two who come at the same moment each has their own view.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import re
import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qsl, urlencode, urlsplit

from olivine.errors import UserError

HEAD_BYTES = 32_768
"""A longer head of a request is refused."""

LOOPBACK = ("127.0.0.1", "localhost", "::1")
"""Hosts that are this machine."""

PENDING = 256
"""So many visits are known that nobody has come to yet."""

_HEAD_S, _PIECE = 10.0, 65_536
_PLACE = re.compile(r"/(v-[\w-]{12})/?", re.ASCII)


@dataclass(frozen=True)
class Head:
    """The head of a request.

    Attributes:
        path: what is asked for, without the query.
        query: words of the query, in order.
        headers: by name in small letters.
    """

    path: str
    query: tuple[tuple[str, str], ...]
    headers: dict[str, str]

    @staticmethod
    def parse(raw: bytes) -> Head | None:
        """The head, or None where it is none of a GET."""
        first, *lines = raw.decode("latin-1").split("\r\n")
        words = first.split(" ")
        if len(words) != 3 or words[0] != "GET" or not words[1].startswith("/"):
            return None
        headers = {}
        for line in lines:
            name, found, value = line.partition(":")
            if found:
                headers[name.strip().lower()] = value.strip()
        path, _, query = words[1].partition("?")
        try:
            return Head(path, tuple(parse_qsl(query, keep_blank_values=True, max_num_fields=300)), headers)
        except ValueError:
            return None

    @property
    def opens_a_page(self) -> bool:
        """Whether somebody opens the explorer; the connection that the page then makes asks for the same path."""
        document = self.headers.get("sec-fetch-dest", "document") == "document"
        asked = self.path in ("/", "/index.html") or bool(self.visit)
        return asked and document and "upgrade" not in self.headers

    @property
    def visit(self) -> str:
        """The visit whose place is asked for, or empty."""
        found = _PLACE.fullmatch(self.path)
        return found[1] if found else ""


class Rules:
    """Who may come in.

    Args:
        token: what the address must carry, or empty for no token.
        port: that the gate listens on, which tells its cookie from those of others.
    """

    def __init__(self, token: str, port: int) -> None:
        self._token, self.cookie = token, f"olivine_{port}"

    def admits(self, head: Head) -> bool:
        """Whether a request may be handed on."""
        host = head.headers.get("host", "")
        origin = head.headers.get("origin")
        try:
            if origin is not None and urlsplit(origin).netloc != host:
                return False  # a page of another site
        except ValueError:  # of none
            return False
        if not self._token:
            return _name_of(host) in LOOPBACK  # else a name of another site that leads here
        return self.carried_by_address(head) or self._is_token(self._cookie_of(head))

    def carried_by_address(self, head: Head) -> bool:
        """Whether the address has the token."""
        return bool(self._token) and any(name == "token" and self._is_token(word) for name, word in head.query)

    def _is_token(self, word: str) -> bool:
        return hmac.compare_digest(word.encode(), self._token.encode())

    def _cookie_of(self, head: Head) -> str:
        try:
            morsel = SimpleCookie(head.headers.get("cookie", "")).get(self.cookie)
        except CookieError:
            return ""
        return "" if morsel is None else morsel.value


class Gate:
    """Listens, looks, and hands on; in a thread of its own.

    Args:
        host: where to listen.
        port: likewise; 0 for any that is free.
        behind: port of the server, on this machine.
        token: as of `Rules`.
        entered: told of every page that is opened: the visit, which is the path of the connection that the page then
            makes, and the query without the token.

    Attributes:
        port: where it listens.
    """

    def __init__(self, host: str, port: int, behind: int, token: str, entered: Callable[[str, str], None]) -> None:
        self._behind, self._entered, self._token = behind, entered, token
        self._loop = asyncio.new_event_loop()
        self._busy = set[asyncio.Task[None]]()
        self._pending = OrderedDict[str, None]()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        listening = asyncio.start_server(self._received, host, port, limit=HEAD_BYTES)
        try:
            self._server = asyncio.run_coroutine_threadsafe(listening, self._loop).result()
        except OSError as error:
            self._end()
            raise UserError(
                f"cannot listen on {host}:{port} ({error.strerror or error}); choose another --port"
            ) from error
        self.port: int = self._server.sockets[0].getsockname()[1]
        self._rules = Rules(token, self.port)

    def close(self) -> None:
        """Stop listening, and cut all connections."""
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(5)
        self._end()

    def _end(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()

    async def _stop(self) -> None:
        self._server.close()
        for task in self._busy:
            task.cancel()
        await asyncio.gather(*self._busy, return_exceptions=True)

    async def _received(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._busy.add(task)
        try:
            await self._serve(reader, writer)
        except (OSError, EOFError, asyncio.TimeoutError, asyncio.LimitOverrunError, asyncio.CancelledError):
            pass  # whoever asked has gone, or never asked
        finally:
            self._busy.discard(task)
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        raw = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), _HEAD_S)
        head = Head.parse(raw)
        if head is None or not self._rules.admits(head):
            reason = "400 Bad Request" if head is None else "403 Forbidden"
            said = "This is no address of the explorer; open the one that the command printed, with its token.\n"
            writer.write(_answer(reason, said))
            await writer.drain()
            return
        query = urlencode([(name, word) for name, word in head.query if name not in ("token", "websocket")])
        headers = self._carrying(head)
        if head.opens_a_page and (headers or head.visit not in self._pending):
            way = "../" if head.path.endswith("/") and head.visit else ""
            headers = (f"Location: {way}{self._invite()}/?{query}", *headers)
        elif headers:
            headers = (f"Location: /{head.path.lstrip('/')}?{query}", *headers)
        if headers:
            writer.write(_answer("303 See Other", "", *headers))
            await writer.drain()
            return
        if head.opens_a_page:
            del self._pending[head.visit]
            self._entered(head.visit, query)
            raw = _at_home(raw)
        await self._hand_on(raw, reader, writer)

    def _carrying(self, head: Head) -> tuple[str, ...]:
        """The cookie that carries the token from now on, where it came in the address."""
        if not self._rules.carried_by_address(head):
            return ()
        return (f"Set-Cookie: {self._rules.cookie}={self._token}; HttpOnly; SameSite=Strict; Path=/",)

    def _invite(self) -> str:
        """The place of a new visit."""
        visit = f"v-{secrets.token_urlsafe(9)}"
        self._pending[visit] = None
        while len(self._pending) > PENDING:
            self._pending.popitem(last=False)
        return visit

    async def _hand_on(self, raw: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", self._behind)
        try:
            inner_writer.write(raw)
            ways = {asyncio.ensure_future(_pump(*ends)) for ends in ((reader, inner_writer), (inner_reader, writer))}
            try:
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for way in ways:
                    way.cancel()
                await asyncio.gather(*ways, return_exceptions=True)
        finally:
            inner_writer.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while piece := await reader.read(_PIECE):
            writer.write(piece)
            await writer.drain()


def _at_home(raw: bytes) -> bytes:
    """The head of a request for a visit's place, as one for the server's only page."""
    _, _, rest = raw.partition(b"\r\n")
    return b"GET / HTTP/1.1\r\n" + rest


def new_token() -> str:
    """A token that cannot be guessed."""
    return secrets.token_urlsafe(24)


def _answer(status: str, text: str, *headers: str) -> bytes:
    body = text.encode()
    lines = [f"HTTP/1.1 {status}", "Content-Type: text/plain; charset=utf-8", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join([*lines, "Cache-Control: no-store", "Connection: close", "", ""]).encode() + body


def _name_of(host: str) -> str:
    """A host without its port."""
    return host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
