"""Links open one page for some minutes without a token, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from service_http import Service, refused, service_of

from mdtree import __version__
from mdtree.service.settings import Limits
from mdtree.service.storage.store import Store
from mdtree.service.web.tickets import LIFETIME, Tickets, read_secret

ID = "0" * 32


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("service")
    store = Store(f"sqlite:///{folder / 'service.sqlite'}")
    with service_of(store, folder / "data", limits=Limits(disk_floor_bytes=0)) as service:
        yield service
    store.close()


def reported(service: Service) -> str:
    """A job whose page was drawn before."""
    id = service.record()
    page = service.folder / "reports" / f"{id}.html"
    page.parent.mkdir(exist_ok=True)
    page.write_text(f'<meta name="generator" content="mdtree {__version__}">', encoding="utf-8")
    return id


def linked(service: Service, *jobs: str) -> str:
    answer = service.alice.post("/v1/links", json={"jobs": jobs})
    assert answer.status_code == 201
    assert "Content-Encoding" not in answer.headers
    ends = datetime.fromisoformat(answer.json()["expires_at"])
    assert timedelta(minutes=9) < ends - datetime.now(UTC) <= timedelta(minutes=10)
    return str(answer.json()["url"])


def test_a_link_opens_nothing_else(service: Service):
    ids = [service.record() for _ in range(3)]
    ticket = linked(service, ids[0]).partition("ticket=")[2]
    both = linked(service, *ids[:2]).partition("ticket=")[2]
    for address in (
        f"/v1/jobs/{ids[1]}/report?ticket={ticket}",
        f"/v1/jobs/{ids[0]}/report?ticket={both}",
        f"/v1/comparison?job={ids[0]}&job={ids[1]}&ticket={ticket}",
        f"/v1/comparison?job={ids[1]}&job={ids[0]}&ticket={both}",
        f"/v1/comparison?job={ids[0]}&job={ids[1]}&job={ids[2]}&ticket={both}",
        f"/v1/jobs/{ids[0]}/result?ticket={ticket}",
        f"/v1/jobs/{ids[0]}?ticket={ticket}",
        f"/v1/jobs?ticket={ticket}",
    ):
        refused(service.nobody.get(address), 401, "unauthorized")


def test_a_link_that_was_changed_opens_nothing(service: Service):
    address = linked(service, service.record())
    path, _, ticket = address.partition("ticket=")
    expiry, owner, signature = ticket.split(".")
    changed = ("B" if signature[0] == "A" else "A") + signature[1:]
    later = str(int(expiry) + 1)
    for other in (
        f"{expiry}.{owner}.{changed}",
        f"{later}.{owner}.{signature}",
        f"{expiry}.Ym9i.{signature}",
        f"{expiry}.{owner}.",
        f"{expiry}.{owner}",
        f"{expiry}.{owner}.{signature}.",
        "",
        "x",
        ".." * 600,
        "9" * 13 + f".{owner}.{signature}",
        "%F0%9F%98%80.%00.x",
    ):
        refused(service.nobody.get(f"{path}ticket={other}"), 401, "unauthorized")


def test_a_link_does_not_outlive_its_time():
    tickets, start = Tickets(bytes(32)), datetime(2026, 1, 1, tzinfo=UTC)
    ticket, ends = tickets.issue("alice", [ID], start)
    assert ends == start + LIFETIME
    assert tickets.owner(ticket, [ID], ends - timedelta(seconds=1)) == "alice"
    assert tickets.owner(ticket, [ID], ends) is None
    assert Tickets(bytes(31) + b"1").owner(ticket, [ID], start) is None


def test_owners_and_jobs_do_not_run_together_in_a_signature():
    tickets = Tickets(bytes(32))
    ticket, _ = tickets.issue("alice", ["ab", "c"])
    assert tickets.owner(ticket, ["ab", "c"]) == "alice"
    assert tickets.owner(ticket, ["a", "bc"]) is None
    assert tickets.owner(ticket, ["abc"]) is None


def test_a_link_of_an_owner_whose_token_was_taken_back_opens_nothing(service: Service):
    run7 = reported(service)
    tickets = Tickets(read_secret(service.folder / "secret"))
    address = f"/v1/jobs/{run7}/report"
    assert service.nobody.get(address, params={"ticket": tickets.issue("alice", [run7])[0]}).is_success
    gone = tickets.issue("carol", [run7])[0]
    refused(service.nobody.get(address, params={"ticket": gone}), 401, "unauthorized")
    other = tickets.issue("bob", [run7])[0]
    refused(service.nobody.get(address, params={"ticket": other}), 404, "not_found")


def test_the_secret_is_made_once_and_readable_by_its_owner_alone(tmp_path: Path):
    path = tmp_path / "secret"
    with ThreadPoolExecutor(8) as pool:
        made = set(pool.map(lambda _: read_secret(path), range(8)))
    assert len(made) == 1
    assert made != {bytes(32)}
    assert path.stat().st_mode & 0o777 == 0o600
    assert [one.name for one in tmp_path.iterdir()] == ["secret"]


@pytest.mark.parametrize(
    "body", [{"jobs": []}, {"jobs": [ID] * 21}, {"jobs": ["x"]}, {"jobs": ID}, {}, {"jobs": [ID], "url": "x"}, []]
)
def test_a_link_is_of_one_to_twenty_jobs(service: Service, body: object):
    refused(service.alice.post("/v1/links", json=body), 422, "invalid")
