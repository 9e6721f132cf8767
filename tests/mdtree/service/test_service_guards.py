"""What stands between a socket and the application: names, origins, sizes, headers, ids, log lines and metrics."""

import asyncio
import io
import json
import logging
import re

import pytest
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect
from starlette.responses import HTMLResponse, PlainTextResponse
from starlette.routing import Mount, Route
from starlette.testclient import TestClient

from mdtree.errors import InputError
from mdtree.service.guarding.guards import guarded
from mdtree.service.guarding.hosts import HostName, Hosts, is_loopback, parse_host
from mdtree.service.guarding.origins import same_origin
from mdtree.service.logs import LONGEST, JsonLines, log_as_json
from mdtree.service.settings import Limits, ServiceSettings
from mdtree.service.telemetry import Telemetry

JOB = "0123456789abcdef" * 2
SECRET = "a-token-that-nobody-may-read-in-a-log"


async def hello(request):
    return PlainTextResponse("hello")


async def count(request):
    try:
        return PlainTextResponse(str(len(await request.body())))
    except ClientDisconnect:
        return PlainTextResponse("an answer after the refusal")


async def job(request):
    request.state.owner = "alice"
    return PlainTextResponse(request.path_params["id"])


async def new_job(request):
    return PlainTextResponse("", 202, {"Location": f"/v1/jobs/{JOB}"})


async def defect(request):
    raise RuntimeError(f"something with a\nline end and {SECRET}")


async def own_policy(request):
    return HTMLResponse("<p>", headers={"Content-Security-Policy": "sandbox", "Cache-Control": "max-age=60"})


APPLICATION = Starlette(
    routes=[
        Route("/", hello),
        Route("/own", own_policy),
        Route("/defect", defect),
        Route("/v1/records", count, methods=["POST"]),
        Route("/v1/files", count, methods=["POST"]),
        Route("/v1/jobs", new_job, methods=["POST"]),
        Route("/v1/jobs/{id}", job, methods=["GET", "DELETE"]),
        Route("/tree/{path:path}", hello),
        Mount("/static", routes=[Route("/{name}", hello)]),
    ]
)


@pytest.fixture
def client(tmp_path):
    return client_of(tmp_path)


def client_of(folder, **settings):
    telemetry = Telemetry()
    limits = Limits(body_bytes=1000)
    settings = ServiceSettings(data_dir=folder, limits=limits, **settings)
    client = TestClient(guarded(APPLICATION, settings, settings.port, telemetry), base_url="http://127.0.0.1:8080")
    client.telemetry = telemetry
    return client


@pytest.fixture
def log():
    """The lines that are written, as objects."""
    stream = io.StringIO()
    root = logging.getLogger()
    before = root.handlers[:], root.level
    log_as_json(stream)
    yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    root.handlers[:], level = before
    root.setLevel(level)
    logging.getLogger("mdtree").setLevel(logging.NOTSET)
    logging.getLogger("uvicorn.error").setLevel(logging.NOTSET)
    logging.captureWarnings(False)


# -- names ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("localhost", HostName("localhost")),
        ("LocalHost:8080", HostName("localhost", 8080)),
        ("mdtree.example.org.:443", HostName("mdtree.example.org", 443)),
        ("127.0.0.1:1", HostName("127.0.0.1", 1)),
        ("[::1]", HostName("::1")),
        ("[0:0:0:0:0:0:0:1]:8080", HostName("::1", 8080)),
        ("::1", None),
        ("[localhost]", None),
        ("[127.0.0.1]", None),
        ("[::1", None),
        ("localhost:", None),
        ("localhost:0", None),
        ("localhost:65536", None),
        ("localhost:80:80", None),
        ("user@localhost", None),
        ("localhost/path", None),
        ("local host", None),
        ("löcalhost", None),
        ("", None),
        ("a" * 300, None),
    ],
)
def test_a_host_is_a_name_or_an_address_with_or_without_a_port(text, expected):
    assert parse_host(text) == expected


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "[::1]", "localhost", "LOCALHOST"])
def test_what_only_this_machine_reaches(host):
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "localhost.example.org", "127.1", "2130706433", "", "*"])
def test_what_others_may_reach(host):
    assert not is_loopback(host)


@pytest.mark.parametrize("host", ["127.0.0.1:8080", "localhost:8080", "[::1]:8080"])
def test_a_service_on_loopback_answers_to_its_own_names(client, host):
    assert client.get("/", headers={"Host": host}).text == "hello"


@pytest.mark.parametrize(
    "host",
    ["evil.example:8080", "localhost", "localhost:80", "127.0.0.1:9", "10.0.0.1:8080", "localhost.evil.example:8080"],
)
def test_and_to_no_other_so_that_no_name_can_be_bound_to_it(client, host):
    refused = client.get("/", headers={"Host": host})
    assert refused.status_code == 421
    assert "--allow-host" in refused.json()["error"]["message"]


@pytest.mark.parametrize("host", ["", "a b", "[::1", "127.0.0.1:port"])
def test_a_host_that_is_none_is_refused(client, host):
    assert client.get("/", headers={"Host": host}).json()["error"]["code"] == "bad_host"


def test_a_port_need_not_be_said_where_it_is_that_of_http(tmp_path):
    client = client_of(tmp_path, port=80)
    assert client.get("/", headers={"Host": "localhost"}).status_code == 200
    assert client.get("/", headers={"Host": "localhost:8080"}).status_code == 421


def test_names_that_the_operator_allows(tmp_path):
    client = client_of(tmp_path, allowed_hosts=("mdtree.example.org", "localhost:9000"))
    for host, status in {
        "MDTREE.example.org": 200,
        "mdtree.example.org:8443": 200,
        "localhost:9000": 200,
        "localhost:9001": 421,
        "example.org": 421,
    }.items():
        assert client.get("/", headers={"Host": host}).status_code == status, host


def test_on_another_address_any_address_will_do_but_no_other_name():
    hosts = Hosts("0.0.0.0", 8080, ["mdtree.example.org"])
    for name in ("10.0.0.7", "::1", "localhost", "mdtree.example.org"):
        assert hosts.allows(HostName(name, 9090))
    assert not hosts.allows(HostName("evil.example", 8080))
    assert Hosts("box.local", 8080).allows(HostName("box.local", 8080))


@pytest.mark.parametrize("name", ["https://mdtree.example.org", "a/b", "a b", ""])
def test_an_allowed_name_must_be_one(name):
    with pytest.raises(InputError, match="not the name of a host"):
        Hosts("127.0.0.1", 8080, [name])


# -- origins ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("origin", "host", "same"),
    [
        ("http://127.0.0.1:8080", "127.0.0.1:8080", True),
        ("http://[::1]:8080", "[::1]:8080", True),
        ("https://mdtree.example.org", "mdtree.example.org", True),  # a proxy speaks TLS
        ("https://mdtree.example.org:443", "mdtree.example.org", True),
        ("http://localhost:3000", "localhost:8080", False),
        ("http://localhost:8080", "127.0.0.1:8080", False),
        ("http://mdtree.example.org.evil.example", "mdtree.example.org", False),
        ("http://user@mdtree.example.org", "mdtree.example.org", False),
        ("http://mdtree.example.org/", "mdtree.example.org", False),
        ("file://mdtree.example.org", "mdtree.example.org", False),
        ("chrome-extension://abc", "abc", False),
        ("null", "localhost:8080", False),
        ("http://[::1", "[::1", False),
        ("", "", False),
    ],
)
def test_an_origin_is_this_server_or_it_is_not(origin, host, same):
    assert same_origin(origin, host) is same


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://localhost:8080"},  # other than the Host it names
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "http://127.0.0.1:8080", "Sec-Fetch-Site": "cross-site"},
    ],
)
def test_another_sites_page_changes_nothing(client, headers):
    for method in ("POST", "DELETE", "PUT"):
        refused = client.request(method, f"/v1/jobs/{JOB}", headers=headers)
        assert (refused.status_code, refused.json()["error"]["code"]) == (403, "foreign_origin")
    assert client.get("/", headers=headers).status_code == 200, "what it cannot read it may ask for"


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Origin": "http://127.0.0.1:8080"},
        {"Origin": "http://127.0.0.1:8080", "Sec-Fetch-Site": "same-origin"},
        {"Sec-Fetch-Site": "none"},
    ],
)
def test_the_own_page_and_programs_do(client, headers):
    assert client.delete(f"/v1/jobs/{JOB}", headers=headers).text == JOB


def test_a_second_origin_does_not_hide_the_first(client):
    headers = [("Origin", "http://evil.example"), ("Origin", "http://127.0.0.1:8080")]
    assert client.delete(f"/v1/jobs/{JOB}", headers=headers).status_code == 403


def test_no_other_site_is_told_that_it_may_read(client):
    preflight = {"Origin": "http://evil.example", "Access-Control-Request-Method": "DELETE"}
    asked = client.options(f"/v1/jobs/{JOB}", headers=preflight)
    assert asked.status_code == 405
    for answered in (asked, client.get("/", headers=preflight)):
        assert not [name for name in answered.headers if name.startswith("access-control")]


# -- sizes ------------------------------------------------------------------------------------------------------------


def parts(*sizes):
    for size in sizes:
        yield b"x" * size


def test_a_body_may_have_the_limit_and_no_more(client):
    assert client.post("/v1/records", content=b"x" * 1000).text == "1000"
    refused = client.post("/v1/records", content=b"x" * 1001)
    assert refused.status_code == 413
    assert "1,000 bytes" in refused.json()["error"]["message"]


def test_also_where_its_length_is_not_announced(client):
    assert client.post("/v1/records", content=parts(500, 500)).text == "1000"
    assert client.post("/v1/records", content=parts(500, 500, 1)).status_code == 413


def test_uploads_are_counted_elsewhere(client):
    assert client.post("/v1/files", content=b"x" * 5000).text == "5000"
    assert client.request("GET", "/v1/files", content=b"x" * 5000).status_code == 413


# -- what every response says -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("GET", "/", {}, 200),
        ("GET", "/nothing", {}, 404),
        ("PUT", "/", {}, 405),
        ("GET", "/defect", {}, 500),
        ("GET", "/", {"Host": "evil.example"}, 421),
        ("POST", "/v1/records", {"Origin": "null"}, 403),
        ("POST", "/v1/records", {"Content-Length": "9999"}, 413),
    ],
)
def test_every_response_carries_the_same_protection(client, method, path, headers, status):
    response = client.request(method, path, headers=headers)
    assert response.status_code == status
    policy = dict(part.strip().split(" ", 1) for part in response.headers["Content-Security-Policy"].split(";"))
    assert policy["default-src"] == policy["frame-ancestors"] == policy["base-uri"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == "'self'"
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert response.headers["Referrer-Policy"] == "no-referrer"
    assert response.headers["Cross-Origin-Opener-Policy"] == "same-origin"
    assert response.headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert response.headers["Cache-Control"] == "no-store"
    assert re.fullmatch(r"[0-9a-f]{16}", response.headers["X-Request-ID"])
    assert "server" not in response.headers


def test_a_response_may_have_a_policy_of_its_own(client):
    response = client.get("/own")
    assert response.headers.get_list("Content-Security-Policy") == ["sandbox"]
    assert response.headers.get_list("Cache-Control") == ["max-age=60"]


def test_request_ids_are_the_servers_own(client):
    ids = {client.get("/", headers={"X-Request-ID": "mine"}).headers["X-Request-ID"] for _ in range(20)}
    assert len(ids) == 20
    assert "mine" not in ids


# -- the log ----------------------------------------------------------------------------------------------------------


def test_a_request_is_one_line_of_json(client, log):
    response = client.delete(f"/v1/jobs/{JOB}?ticket={SECRET}", headers={"Authorization": f"Bearer {SECRET}"})
    (line,) = log()
    assert line.pop("time").endswith("+00:00")
    assert 0 < line.pop("seconds") < 5
    assert line == {
        "level": "info",
        "logger": "mdtree.service.requests",
        "message": "request",
        "request_id": response.headers["X-Request-ID"],
        "method": "DELETE",
        "route": "/v1/jobs/{id}",
        "status": 200,
        "owner": "alice",
        "bytes_in": 0,
        "bytes_out": len(JOB),
        "job": JOB,
    }


def test_the_job_that_a_request_made_is_named(client, log):
    client.post("/v1/jobs")
    client.get(f"/v1/jobs/{JOB}x")
    assert [line.get("job") for line in log()] == [JOB, None]


def test_nothing_of_a_clients_text_is_in_it(client, log):
    client.get(f"/{SECRET}?{SECRET}", headers={"Authorization": SECRET, "User-Agent": SECRET})
    client.get(f"/v1/jobs/{SECRET}")
    client.post("/v1/records", content=SECRET, headers={"Origin": SECRET})
    client.get("/", headers={"Host": SECRET})
    client.get(f"/tree/{SECRET}")
    lines = log()
    assert [line["status"] for line in lines] == [404, 200, 403, 421, 200]
    assert SECRET not in json.dumps(lines)


def test_a_defect_is_logged_with_its_request_and_told_without_its_text(client, log):
    response = client.get("/defect")
    assert response.status_code == 500
    assert SECRET not in response.text
    traceback, request = log()
    assert traceback["request_id"] == request["request_id"] == response.headers["X-Request-ID"]
    assert "RuntimeError" in traceback["traceback"]
    assert (request["status"], request["level"]) == (500, "warning")


def test_no_text_breaks_out_of_its_line(log):
    logging.getLogger("mdtree.service").info("a\nb\x1b[31m\u2028%s", "x" * 10_000, extra={"owner": "é\n" * 5000})
    (line,) = log()
    assert line["message"].startswith("a\nb\x1b[31m\u2028x")
    assert len(line["message"]) == len(line["owner"]) == LONGEST
    record = logging.makeLogRecord({"msg": "a\nb\x1b\u2028é"})
    assert re.fullmatch(r"[\x20-\x7e]+", JsonLines().format(record))


# -- metrics ----------------------------------------------------------------------------------------------------------


def test_metrics_count_by_route_and_never_by_path(client):
    for number in range(30):
        client.get(f"/v1/jobs/{number:032x}")
        client.get(f"/unknown/{number}")
        client.get(f"/tree/{number}/a")
        client.get(f"/static/{number}")
        client.request(f"METHOD{number}", "/")
    text = client.telemetry.text().decode()
    assert 'mdtree_requests_total{method="GET",route="/v1/jobs/{id}",status="200"} 30.0' in text
    assert 'mdtree_requests_total{method="GET",route="/static/*",status="200"} 30.0' in text
    assert 'mdtree_requests_total{method="GET",route="(none)",status="404"} 30.0' in text
    assert 'mdtree_requests_total{method="GET",route="(none)",status="200"} 30.0' in text
    assert 'mdtree_requests_total{method="other",route="/",status="405"} 30.0' in text
    assert 'mdtree_request_seconds_count{method="GET",route="/v1/jobs/{id}"} 30.0' in text
    assert len(re.findall(r"^mdtree_requests_total", text, re.MULTILINE)) == 5


# -- applications alone ----------------------------------------------------------------------------------------------


def answered(application, folder, method="GET", seconds=10.0):
    """Status, headers and body that an application sends behind the guards; it is cancelled after so many seconds."""
    sent = []

    async def receive():
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message):
        sent.append(message)

    async def ask():
        scope = {"type": "http", "method": method, "path": "/", "query_string": b""}
        scope["headers"] = [(b"host", b"localhost:8080")]
        guards = guarded(application, ServiceSettings(data_dir=folder), 8080, Telemetry())
        task = asyncio.ensure_future(guards(scope, receive, send))
        await asyncio.wait([task], timeout=seconds)
        task.cancel()
        await task

    asyncio.run(ask())
    return sent[0]["status"], dict(sent[0]["headers"]), b"".join(message["body"] for message in sent[1:])


def test_a_head_is_a_get_without_its_body(tmp_path, log):
    async def greeting(scope, receive, send):
        assert scope["method"] == "GET", "an application need not know of the other"
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]})
        await send({"type": "http.response.body", "body": b"hello"})

    status, headers, body = answered(greeting, tmp_path, "HEAD")
    assert (status, headers[b"content-length"], body) == (200, b"5", b"")
    assert [(line["method"], line["bytes_out"]) for line in log()] == [("HEAD", 0)]


def test_a_request_that_the_end_of_the_server_cuts_off_is_answered(tmp_path, log):
    async def slow(scope, receive, send):
        await asyncio.sleep(60)

    status, headers, body = answered(slow, tmp_path, seconds=0.01)
    assert b"retry-after" in headers
    assert (status, json.loads(body)["error"]["code"]) == (503, "stopping")
    assert [line["status"] for line in log()] == [503]


def test_one_that_ends_in_an_exception_is_answered_with_where_to_look(tmp_path, log):
    async def broken(scope, receive, send):
        raise RuntimeError(SECRET)

    status, _, body = answered(broken, tmp_path)
    error = json.loads(body)["error"]
    assert (status, error["code"]) == (500, "defect")
    assert error["message"].endswith(f"request {log()[0]['request_id']}")
    assert SECRET not in error["message"]
