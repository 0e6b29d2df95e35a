"""The explorer in the browser: a server on this machine, a gate before it, a panel for each visitor."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import shutil
import socket
import sys
import threading
import webbrowser
from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING

from olivine.drawing.links import EXPLORER_PORT
from olivine.errors import MissingExtraError, UserError
from olivine.explorer.browser.gate import LOOPBACK, Gate, new_token
from olivine.explorer.browser.panel import Panel
from olivine.explorer.stage import Stage
from olivine.explorer.view import View

if TYPE_CHECKING:
    import viser

VISITS = 256
"""The views of so many visits are remembered, so that a page whose connection was lost finds its own again."""

_log = logging.getLogger("olivine")


class Explorer:
    """A running explorer.

    Args:
        stage: what makes views concrete.
        view: what visitors see whose address says nothing else.
        host: where it listens; on any other than this machine a token is asked for.
        port: likewise; 0 for any that is free.

    Attributes:
        token: what the address must carry; empty on this machine.
        port: where it listens.

    Raises:
        MissingExtraError: viser is not installed.
        UserError: it cannot listen there, or the first frame or a network cannot be read.
    """

    def __init__(
        self, stage: Stage, view: View | None = None, host: str = LOOPBACK[0], port: int = EXPLORER_PORT
    ) -> None:
        self._stage, self._view = stage, View() if view is None else view
        stage.show(self._view, wait=False)  # what is wrong is said here, and not to a visitor
        self._asked = OrderedDict[str, tuple[View, str]]()
        self._panels: dict[int, tuple[str, Panel]] = {}
        self._lock = threading.Lock()
        self._server = _viser_server()
        self._server.on_client_connect(self._come)
        self._server.on_client_disconnect(self._gone)
        self.host, self.token = host, "" if host in LOOPBACK else new_token()
        try:
            self._gate = Gate(host, port, self._server.get_port(), self.token, self._entered)
        except UserError:
            self._server.stop()
            raise
        self.port = self._gate.port

    @property
    def address(self) -> str:
        """What to open."""
        host = socket.gethostname() if self.host in ("0.0.0.0", "::") else self.host
        token = f"?token={self.token}" if self.token else ""
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}/{token}"

    def close(self) -> None:
        """Stop serving, and let all visitors go."""
        self._gate.close()
        self._stage.inquiries.stop()
        with self._lock:
            for _, panel in self._panels.values():
                panel.close()
        with contextlib.redirect_stdout(io.StringIO()):
            self._server.stop()

    def _entered(self, visit: str, query: str) -> None:
        """Somebody opens a page, whose connection follows under the name of the visit."""
        view, trouble = self._view, ""
        try:
            view = View.of(query) if query else self._view
        except UserError as error:
            trouble = str(error)
        self._remember(visit, view, trouble)

    def _remember(self, visit: str, view: View, trouble: str = "") -> None:
        with self._lock:
            self._asked[visit] = view, trouble
            self._asked.move_to_end(visit)
            while len(self._asked) > VISITS:
                self._asked.popitem(last=False)

    def _come(self, client: viser.ClientHandle) -> None:
        visit = self._visit(client)
        view, trouble = self._asked.get(visit, (self._view, ""))
        panel = Panel(client, self._stage, view)
        if trouble:
            _log.warning("warning: %s", trouble)
            panel.desk.say(trouble)
        with self._lock:
            self._panels[client.client_id] = visit, panel

    def _visit(self, client: viser.ClientHandle) -> str:
        """The visit that a connection belongs to, which is the path that it was opened with."""
        # viser says which connection a client is, but not its path. Where a later version keeps connections elsewhere,
        # visitors see the first view, whatever their address says, which the browser's tests would tell.
        connections = getattr(getattr(self._server, "_websock_server", None), "_live_connections", {})
        request = getattr(connections.get(client.client_id), "request", None)
        return "" if request is None else str(request.path).strip("/")

    def _gone(self, client: viser.ClientHandle) -> None:
        with self._lock:
            visit, panel = self._panels.pop(client.client_id, ("", None))
        if panel is not None:
            panel.close()
            self._remember(visit, panel.desk.view)


def serve(stage: Stage, view: View, host: str, port: int, *, browser: bool, say: Callable[[str], None]) -> None:
    """Serve until interrupted.

    Args:
        stage: what makes views concrete.
        view: what is shown at first.
        host: where to listen.
        port: likewise.
        browser: open a browser, where there is one.
        say: prints a line.

    Raises:
        As of `Explorer`.
    """
    explorer = Explorer(stage, view, host, port)
    try:
        say(f"{explorer.address} (Ctrl-C ends it)")
        if explorer.token:
            _log.warning(
                "warning: %s is not this machine alone; whoever has the address sees the data, and it is sent in the "
                "clear",
                host,
            )
        if not (browser and _open_browser(explorer.address)) and not explorer.token:
            user = f"{os.environ.get('USER', 'you')}@{socket.gethostname()}"
            forward = f"ssh -N -L {explorer.port}:127.0.0.1:{explorer.port} {user}"
            say(f"from another machine: {forward}, then the same address")
        threading.Event().wait()
    finally:
        explorer.close()


def _open_browser(address: str) -> bool:
    """Open a browser where there is a screen; over ssh there is none."""
    screen = sys.platform in ("darwin", "win32") or any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))
    opener = sys.platform != "linux" or shutil.which("xdg-open") is not None
    if not (screen and opener) or os.environ.get("SSH_CONNECTION"):
        return False
    return webbrowser.open(address)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _viser_server() -> viser.ViserServer:
    """A server that says nothing on the terminal, and shows nothing through the servers of others."""
    try:
        import viser
    except ImportError as error:
        raise MissingExtraError("viser", "explore") from error

    class Private(viser.ViserServer):
        def request_share_url(self, verbose: bool = True) -> str | None:  # noqa: ARG002
            """Whatever a visitor asks."""
            return None

    with contextlib.redirect_stdout(io.StringIO()):
        return Private(host=LOOPBACK[0], port=_free_port(), verbose=False)
