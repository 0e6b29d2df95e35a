from __future__ import annotations

import socket
import threading
from contextlib import closing, suppress

import pytest

from olivine.errors import UserError
from olivine.explorer.browser.gate import Gate, Head, Rules, new_token


def head(path="/", **headers):
    lines = [f"GET {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    return Head.parse("\r\n".join([*lines, "", ""]).encode())


@pytest.mark.parametrize(
    "raw",
    [b"", b"POST / HTTP/1.1\r\n\r\n", b"GET http://else/ HTTP/1.1\r\n\r\n", b"GET /?" + b"a&" * 400 + b" HTTP/1.1"],
)
def test_what_is_no_request_of_a_page_is_none(raw):
    assert Head.parse(raw) is None


def test_on_this_machine_pages_of_others_are_kept_out():
    rules = Rules("", 8090)
    assert rules.admits(head(Host="127.0.0.1:8090"))
    assert rules.admits(head(Host="localhost:1234", Origin="http://localhost:1234"))
    assert rules.admits(head(Host="[::1]:8090"))
    assert not rules.admits(head(Host="127.0.0.1:8090", Origin="https://example.org"))
    assert not rules.admits(head(Host="127.0.0.1:8090", Origin="null"))
    assert not rules.admits(head(Host="127.0.0.1:8090", Origin="http://[127.0.0.1:8090"))
    assert not rules.admits(head(Host="rebound.example.org:8090"))
    assert not rules.admits(head())


def test_elsewhere_the_token_is_asked_for_in_the_address_or_a_cookie():
    token = new_token()
    rules = Rules(token, 8090)
    assert rules.admits(head(f"/?token={token}", Host="gpu:8090"))
    assert rules.admits(head("/assets/x.js", Host="gpu:8090", Cookie=f"a=b; {rules.cookie}={token}"))
    for path, cookie in (
        ("/", ""), ("/?token=", ""), (f"/?token={token}x", ""), (f"/?token={token[:-1]}", ""), ("/?token=ä", ""),
        ("/", f"{rules.cookie}={token[1:]}"), ("/", f"olivine_1={token}"), ("/", "\x01=;;"),
    ):  # fmt: skip
        assert not rules.admits(head(path, Host="gpu:8090", Cookie=cookie)), (path, cookie)
    assert not rules.admits(head(f"/?token={token}", Host="gpu:8090", Origin="http://example.org"))
    assert len({new_token() for _ in range(50)}) == 50


class Behind:
    """A server that echoes in capitals."""

    def __init__(self):
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        while True:
            try:
                connection, _ = self.socket.accept()
            except OSError:
                return
            threading.Thread(target=self.echo, args=(connection,), daemon=True).start()

    def echo(self, connection):
        with connection:
            while data := connection.recv(1 << 16):
                connection.sendall(data.upper())


@pytest.fixture
def behind():
    server = Behind()
    with closing(server.socket):
        yield server


def ask(port, words, more=b""):
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        connection.sendall(words.replace("\n", "\r\n").encode())
        answer = connection.recv(1 << 16)
        if more:
            connection.sendall(more)
            while not answer.endswith(more.upper()):
                answer += connection.recv(1 << 16)
        return answer


def led(answer):
    """Where a redirect leads."""
    assert answer.startswith(b"HTTP/1.1 303")
    return answer.decode().partition("Location: ")[2].partition("\r\n")[0]


def test_whoever_may_come_in_is_handed_on_both_ways_and_the_view_is_told(behind):
    seen = []
    gate = Gate("127.0.0.1", 0, behind.port, "", lambda *told: seen.append(told))
    place = led(ask(gate.port, "GET /?frame=2&hide=car&websocket=ws://old HTTP/1.1\nHost: localhost\n\n"))
    visit, _, query = place.partition("/?")
    assert query == "frame=2&hide=car"
    more = b"x" * 300_000
    answer = ask(gate.port, f"GET /{place} HTTP/1.1\nHost: localhost\n\n", more)
    assert answer.startswith(b"GET / HTTP/1.1\r\nHOST")
    assert answer.endswith(more.upper())
    assert b"HOST: LOCALHOST" in ask(gate.port, "GET /assets/a.js HTTP/1.1\nHost: localhost\n\n")
    opened = ask(gate.port, f"GET /{visit} HTTP/1.1\nHost: localhost\nUpgrade: websocket\n\n")
    assert opened.startswith(f"GET /{visit} HTTP".upper().encode())
    assert seen == [(visit, "frame=2&hide=car")]
    gate.close()
    with pytest.raises(ConnectionRefusedError):
        ask(gate.port, "GET / HTTP/1.1\nHost: localhost\n\n")


def test_every_visit_has_a_place_of_its_own_which_is_opened_once(behind):
    seen = []
    gate = Gate("127.0.0.1", 0, behind.port, "", lambda *told: seen.append(told))
    places = [led(ask(gate.port, f"GET /?frame={k} HTTP/1.1\nHost: localhost\n\n")) for k in range(20)]
    for place in reversed(places):
        ask(gate.port, f"GET /{place} HTTP/1.1\nHost: localhost\n\n")
    assert len(dict(seen)) == 20
    assert [query for _, query in seen] == [f"frame={k}" for k in reversed(range(20))]
    again = led(ask(gate.port, f"GET /{places[0]}&websocket=ws://x/y HTTP/1.1\nHost: localhost\n\n"))
    assert again.startswith("../v-")
    assert again.endswith("/?frame=0")
    strange = led(ask(gate.port, "GET /v-abcdefghijkl/?frame=5 HTTP/1.1\nHost: localhost\n\n"))
    assert strange.startswith("../v-")
    assert len(seen) == 20
    gate.close()


def test_a_wrong_token_is_refused_and_the_right_one_becomes_a_cookie(behind):
    seen = []
    gate = Gate("127.0.0.1", 0, behind.port, "secret", lambda *told: seen.append(told))
    for path in ("/", "/?token=wrong", "/assets/a.js", "/v-abcdefghijkl/?token=secre"):
        assert ask(gate.port, f"GET {path} HTTP/1.1\nHost: gpu\n\n").startswith(b"HTTP/1.1 403")
    assert ask(gate.port, "POST / HTTP/1.1\nHost: gpu\n\n").startswith(b"HTTP/1.1 400")
    assert seen == []
    answer = ask(gate.port, "GET /?token=secret&frame=3 HTTP/1.1\nHost: gpu\n\n")
    visit, _, query = led(answer).partition("/?")
    assert query == "frame=3"
    cookie = f"olivine_{gate.port}=secret"
    assert f"Set-Cookie: {cookie}; HttpOnly; SameSite=Strict" in answer.decode()
    page = f"GET /{visit}/?frame=3 HTTP/1.1\nHost: gpu\n"
    assert ask(gate.port, page + "\n").startswith(b"HTTP/1.1 403")
    assert ask(gate.port, f"{page}Cookie: {cookie}\n\n").startswith(b"GET / HTTP/1.1\r\nHOST: GPU")
    assert seen == [(visit, "frame=3")]
    away = ask(gate.port, "GET //evil.example/?token=secret HTTP/1.1\nHost: gpu\n\n")
    assert led(away) == "/evil.example/?"
    gate.close()


def test_a_head_without_end_is_cut_off(behind):
    gate = Gate("127.0.0.1", 0, behind.port, "", lambda *_: None)
    with socket.create_connection(("127.0.0.1", gate.port), timeout=5) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"y" * 70_000)
        with suppress(ConnectionResetError):
            assert connection.recv(100) == b""
    gate.close()


def test_a_port_that_is_taken_is_named(behind):
    with pytest.raises(UserError, match=f"cannot listen on 127.0.0.1:{behind.port}.*choose another --port"):
        Gate("127.0.0.1", behind.port, 1, "", lambda *_: None)
