"""What a client may do to a connection: slow heads, slow bodies, slow readers, too many of them, and no HTTP at all.

Every test ends with a server that still answers.
"""

import json
import time

import pytest
from service_small_server import BIG, LIMITS, SmallServer, answer, everything

from mdtree.service.guarding.sizes import HEAD_BYTES


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    server = SmallServer(tmp_path_factory.mktemp("service"))
    yield server
    server.stop()


@pytest.fixture
def server(running):
    running.seen.clear()
    running.refused.clear()
    yield running
    assert running.is_up()


def status(text):
    return int(text.split(b" ", 2)[1])


def error(text):
    return json.loads(text.partition(b"\r\n\r\n")[2])["error"]


def dribbled(server, text, seconds):
    """What comes back while a byte is sent every so often, and how long it took."""
    began = time.monotonic()
    with server.connect() as client:
        for byte in text:
            try:
                client.sendall(bytes([byte]))
            except OSError:
                break
            client.settimeout(seconds)
            try:
                return everything_after(client, client.recv(65536)), time.monotonic() - began
            except TimeoutError:
                continue
    raise AssertionError("the whole text was taken")


def everything_after(client, first):
    client.settimeout(10)
    return first + everything(client)


# -- heads ------------------------------------------------------------------------------------------------------------


def test_a_head_that_does_not_end_in_time_is_refused_while_others_are_answered(server):
    text, seconds = dribbled(server, server.head("GET /health", X_Long="x" * 200), 0.05)
    assert status(text) == 408
    assert error(text)["code"] == "head_timeout"
    assert b"connection: close" in text
    assert LIMITS.header_seconds <= seconds < LIMITS.header_seconds + 3
    assert server.refused == ["head_timeout"]


def test_a_connection_that_says_nothing_is_closed_without_an_answer(server):
    began = time.monotonic()
    assert server.ask() == b""
    assert LIMITS.header_seconds <= time.monotonic() - began < LIMITS.header_seconds + 3


def test_the_time_of_a_second_head_begins_with_its_first_byte(server):
    with server.connect() as client:
        client.sendall(server.head("GET /health"))
        assert status(answer(client)) == 200
        time.sleep(1.5 * LIMITS.header_seconds)  # idle connections may be kept longer
        began = time.monotonic()
        client.sendall(b"GET /hea")
        assert status(everything(client)) == 408
        assert LIMITS.header_seconds <= time.monotonic() - began < LIMITS.header_seconds + 3


def test_a_second_head_that_began_in_the_packet_of_the_first_has_its_time_too(server):
    text = server.ask(server.head("GET /health") + b"GET /hea")
    assert text.count(b"HTTP/1.1 ") == 2
    assert b"HTTP/1.1 408 " in text


def test_a_head_that_is_too_large_is_refused_when_the_limit_is_passed(server):
    text = server.ask(server.head("GET /health", X_Long="x" * HEAD_BYTES, Connection="close"))
    assert status(text) == 431
    assert f"{HEAD_BYTES:,} bytes" in error(text)["message"]
    assert status(server.ask(server.head("GET /health?" + "q" * HEAD_BYTES, Connection="close"))) == 431
    endless = [b"GET /health HTTP/1.1\r\n", *[b"X-More: " + b"x" * 5000 + b"\r\n"] * 20]
    refused = server.ask(*endless, pause=0.01)
    assert status(refused) == 431
    assert f"{HEAD_BYTES:,} bytes" in error(refused)["message"]
    almost = server.head("GET /health", X_Long="x" * (HEAD_BYTES - 200), Connection="close")
    assert status(server.ask(almost)) == 200


@pytest.mark.parametrize(
    "text",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET\r\n\r\n",
        b"GET /health HTTP/1.1\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost : a\r\n\r\n",
        b"GET /h\xc3\xa9 HTTP/1.1\r\nHost: a\r\n\r\n",
        b"POST /v1/records HTTP/1.1\r\nHost: a\r\nContent-Length: -5\r\n\r\n",
        b"POST /v1/records HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef",
        b"POST /v1/records HTTP/1.1\r\nHost: a\r\nContent-Length: 0x10\r\n\r\n",
        b"POST /v1/records HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n",
    ],
    ids=lambda text: repr(text[:60]),
)
def test_what_is_no_http_is_refused(server, text):
    text = server.ask(text)
    assert status(text) in (400, 501)
    assert error(text)["code"] == "malformed"
    assert b"x-content-type-options: nosniff" in text
    assert server.refused == ["malformed"]


# -- bodies -----------------------------------------------------------------------------------------------------------


def test_a_body_that_stops_is_refused_and_the_application_sees_its_client_gone(server):
    began = time.monotonic()
    text = server.ask(server.head("POST /v1/files", Content_Length="1000") + b"x" * 10)
    assert status(text) == 408
    assert error(text)["code"] == "body_timeout"
    assert "nothing of the body came for 0.5 seconds" in error(text)["message"]
    assert LIMITS.body_idle_seconds <= time.monotonic() - began < LIMITS.body_idle_seconds + 3
    assert server.seen == ["gone"]


def test_a_body_that_comes_too_slowly_is_refused_although_it_never_stops(server):
    head = server.head("POST /v1/files", Content_Length="100000")
    text = server.ask(head, *[b"x" * 10] * 100, pause=0.05)
    assert status(text) == 408
    assert "1,000 bytes/s" in error(text)["message"]
    assert server.seen == ["gone"]


def test_a_body_that_is_fast_enough_is_taken_however_long_it_takes(server):
    head = server.head("POST /v1/files", Content_Length="3000", Connection="close")
    text = server.ask(head, *[b"x" * 200] * 15, pause=0.1)
    assert status(text) == 200
    assert server.seen == [3000]


def test_a_client_is_not_blamed_for_the_time_in_which_the_server_does_not_read(server):
    body = b"x" * 2_000_000
    head = server.head("POST /v1/files?wait=1.2", Content_Length=str(len(body)), Connection="close")
    assert status(server.ask(head + body)) == 200
    assert server.seen == [len(body)]


def test_a_body_that_is_shorter_than_it_said_leaves_nothing_behind(server):
    with server.connect() as client:
        client.sendall(server.head("POST /v1/files", Content_Length="1000") + b"x" * 10)
    for _ in range(100):
        if server.seen:
            break
        time.sleep(0.02)
    assert server.seen == ["gone"]
    assert server.refused == []


def test_what_comes_after_the_length_it_said_is_another_request(server):
    text = server.ask(server.head("POST /v1/files", Content_Length="5") + b"helloGARBAGE\r\n\r\n")
    assert server.seen == [5]
    assert text.startswith(b"HTTP/1.1 200 ")
    assert b"HTTP/1.1 400 " in text


def test_a_chunk_that_is_none_ends_the_request(server):
    head = server.head("POST /v1/files", Transfer_Encoding="chunked")
    text = server.ask(head + b"5\r\nhello\r\n", b"not hexadecimal\r\n", pause=0.1)
    assert status(text) == 400
    assert server.seen == ["gone"]


def test_a_length_beside_chunks_is_refused(server):
    head = server.head("POST /v1/records", Content_Length="5", Transfer_Encoding="chunked")
    text = server.ask(head + b"0\r\n\r\n")
    assert status(text) == 400
    assert server.seen == []


def test_some_of_a_body_is_read_after_the_answer_so_that_the_client_hears_it_and_more_is_not(server):
    small = server.head("POST /unauthorized", Content_Length="300000") + b"x" * 300_000
    with server.connect() as client:
        client.sendall(small)
        assert status(answer(client)) == 401
        client.sendall(server.head("GET /health"))
        assert status(answer(client)) == 200
    with server.connect() as client:
        client.sendall(server.head("POST /unauthorized", Content_Length=str(2**30)))
        assert status(answer(client)) == 413
        with pytest.raises(OSError, match=r"reset|[Bb]roken"):
            client.sendall(b"x" * 2**26)
    assert "unread_body" in server.refused


def test_a_client_that_waits_to_be_told_to_go_on_is_told(server):
    line = f"POST /v1/files?wait={2 * LIMITS.body_idle_seconds}"
    head = server.head(line, Content_Length="5", Expect="100-continue", Connection="close")
    with server.connect() as client:
        client.sendall(head)  # and it is not its fault that the server takes its time
        assert client.recv(65536).startswith(b"HTTP/1.1 100 ")
        client.sendall(b"hello")
        assert status(everything(client)) == 200


def test_a_body_that_would_be_refused_is_not_asked_for(server):
    head = server.head("POST /v1/records", Content_Length=str(LIMITS.body_bytes + 1), Expect="100-continue")
    with server.connect() as client:
        client.sendall(head)
        assert status(answer(client)) == 413
    assert server.seen == []


# -- connections ------------------------------------------------------------------------------------------------------


def test_requests_sent_at_once_are_answered_in_their_order(server):
    parts = [
        server.head("POST /v1/files", Content_Length="1") + b"x",
        server.head("GET /health"),
        server.head("POST /v1/files", Content_Length="2", Connection="close") + b"xy",
    ]
    text = server.ask(b"".join(parts))
    bodies = [part.partition(b"\r\n\r\n")[2] for part in text.split(b"HTTP/1.1 200 OK")[1:]]
    assert bodies == [b"1", b"alive", b"2"]


def test_connections_beyond_the_limit_are_told_so_and_many_more_are_dropped(server):
    held = [server.connect() for _ in range(LIMITS.connections)]
    try:
        time.sleep(0.1)
        text = server.ask(server.head("GET /health"))
        assert status(text) == 503
        assert error(text)["code"] == "too_many_connections"
        assert b"retry-after: " in text
        silent = [server.connect() for _ in range(LIMITS.connections)]
        time.sleep(0.1)
        assert server.ask(server.head("GET /health")) == b""
        for client in silent:
            client.close()
    finally:
        for client in held:
            client.close()
    time.sleep(0.1)
    assert status(server.ask(server.head("GET /health", Connection="close"))) == 200


def test_a_client_that_does_not_read_its_answer_is_left(server):
    with server.connect() as client:
        client.sendall(server.head("GET /big"))
        for _ in range(60):
            if server.refused:
                break
            time.sleep(0.05)
        assert server.refused == ["read_timeout"]


def test_a_client_that_reads_slowly_gets_all_of_it(server):
    began = time.monotonic()
    with server.connect() as client:
        client.sendall(server.head("GET /big", Connection="close"))
        size = 0
        while part := client.recv(2**22):
            size += len(part)
            time.sleep(0.6 * LIMITS.body_idle_seconds * len(part) / 2**24)
    assert size > BIG
    assert time.monotonic() - began > 2 * LIMITS.body_idle_seconds
    assert server.refused == []


def test_upgrades_are_not_taken(server):
    head = server.head("GET /health", Connection="Upgrade", Upgrade="websocket", Sec_WebSocket_Key="x" * 22 + "==")
    with server.connect() as client:
        client.sendall(head)
        assert status(answer(client)) == 200
