"""Clients that do not give up: they send again what a dying server did not answer, under the same idempotency key."""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from service_samples import Expected, Sample, without_seconds

AGAIN = frozenset({408, 429, 503})
PATIENCE_SECONDS = 180.0
PART = 2**15


@dataclass
class Wish:
    """One job that a client wants, and what became of it.

    Attributes
    ----------
    key : str
        Its idempotency key.
    cancels : bool
        The client changes its mind at some moment.
    job : str
        Its id, once the server promised it.
    ended : dict
        The job as the server shows it at its end.
    diagnosis : str
    seconds : float
        From the first request until its end was seen.
    """

    key: str
    sample: Sample
    cancels: bool = False
    job: str = ""
    ended: dict[str, Any] = field(default_factory=dict)
    diagnosis: str = ""
    seconds: float = 0.0
    began: float = 0.0

    def defects(self, expected: Expected) -> list[str]:
        """What differs from what the command line says; nothing if all is well."""
        state, failure = self.ended.get("state"), self.ended.get("failure") or {}
        found = []
        if self.ended.get("crashes"):
            found.append(f"{self.ended['crashes']} crashes")
        if state == "cancelled" and self.cancels:
            return found
        if expected.diagnosis is None:
            said = (state, failure.get("blame"), failure.get("message"))
            if said != ("failed", "input", expected.refusal):
                found.append(f"{said}; expected a failure: {expected.refusal}")
        elif state != "done":
            found.append(f"{state}: {failure}; expected a diagnosis")
        elif without_seconds(self.diagnosis) != expected.diagnosis:
            found.append("another diagnosis than the command line's")
        return [f"{self.sample.name}, job {self.job}: {one}" for one in found]


@dataclass
class Client:
    """Sends wishes and follows them; one thread each.

    Attributes
    ----------
    surprises : list of str
        Answers that no client should get.
    lost_answers : int
        Requests that the server did not answer, for it was dying.
    """

    address: str
    samples: Path
    seed: int
    slow: bool = True
    surprises: list[str] = field(default_factory=list)
    lost_answers: int = 0
    wishes: list[Wish] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        self.http = self._connected()

    def _connected(self) -> httpx.Client:
        return httpx.Client(base_url=self.address, timeout=30.0, trust_env=False)

    def ask(self, method: str, path: str, **request: Any) -> httpx.Response:
        """The answer, however often it takes; `content` may be a function that makes the body anew."""
        until = time.monotonic() + PATIENCE_SECONDS
        body = request.pop("content", None)
        while time.monotonic() < until:
            try:
                content = body() if callable(body) else body
                answer = self.http.request(method, path, content=content, **request)
                if answer.status_code not in AGAIN:
                    return answer
            except httpx.TransportError:
                self.lost_answers += 1
                self.http.close()
                self.http = self._connected()
            time.sleep(self.random.uniform(0.05, 0.3))
        raise TimeoutError(f"{method} {path}: no answer for {PATIENCE_SECONDS:.0f} s")

    def _expect(self, answer: httpx.Response, *statuses: int) -> Any:
        if answer.status_code not in statuses:
            self.surprises.append(
                f"{answer.request.method} {answer.request.url.path}: {answer.status_code} {answer.text[:300]}"
            )
            raise RuntimeError(self.surprises[-1])
        return answer.json()

    def _parts(self, file: Path) -> Iterator[bytes]:
        """A file in parts, sometimes so slowly that a server may die over it."""
        content = file.read_bytes()
        pause = self.random.choice((0.0, 0.0, 0.05, 0.2)) if self.slow else 0.0
        for start in range(0, len(content), PART):
            yield content[start : start + PART]
            time.sleep(pause)

    def upload(self, name: str) -> str:
        """The id of a file; an upload that was not answered is another file, which nobody uses."""
        file = self.samples / name
        answer = self.ask("POST", "/v1/files", params={"name": name}, content=lambda: self._parts(file))
        return str(self._expect(answer, 201)["id"])

    def submit(self, wish: Wish) -> None:
        """Until the server promises it, and sometimes once more, which must be the same job."""
        self.wishes.append(wish)
        wish.began = time.monotonic()
        wish.job = self._promised(wish)
        while self.random.random() < 0.15:
            again = self._promised(wish)
            if again != wish.job:
                self.surprises.append(f"key {wish.key} is promised as {wish.job} and as {again}")

    def _promised(self, wish: Wish) -> str:
        sample, headers = wish.sample, {"Idempotency-Key": wish.key}
        if sample.record:
            body = (self.samples / sample.files[0]).read_bytes()
            headers["Content-Type"] = "application/json"
            answer = self.ask("POST", "/v1/records", content=body, headers=headers)
            self._expect(answer, 200, 201)
            return answer.headers["Location"].rsplit("/", 1)[1]
        if not wish.job:
            wish.ended["asked"] = self._request(sample)
        answer = self.ask("POST", "/v1/jobs", json=wish.ended["asked"], headers=headers)
        return str(self._expect(answer, 200, 202)["id"])

    def _request(self, sample: Sample) -> dict[str, Any]:
        checkpoint, *siblings = [self.upload(name) for name in sample.files]
        request: dict[str, Any] = {"checkpoint": checkpoint, "siblings": siblings}
        if sample.data:
            request["data"] = {"file": self.upload(sample.data)}
        if sample.architecture:
            request["architecture"] = sample.architecture
        return request

    def follow(self, wish: Wish, interval: float = 0.2) -> None:
        """Until it ends, asking every so many seconds."""
        until = time.monotonic() + PATIENCE_SECONDS
        if wish.cancels:
            time.sleep(self.random.uniform(0, 3))
            self._expect(self.ask("POST", f"/v1/jobs/{wish.job}/cancel"), 200, 202)
        while time.monotonic() < until:
            wish.ended = self._expect(self.ask("GET", f"/v1/jobs/{wish.job}"), 200)
            if wish.ended["state"] in ("done", "failed", "cancelled"):
                break
            time.sleep(interval)
        else:
            self.surprises.append(f"job {wish.job} did not end: {json.dumps(wish.ended)}")
        wish.seconds = time.monotonic() - wish.began
        if wish.ended["state"] == "done":
            wish.diagnosis = self.ask("GET", f"/v1/jobs/{wish.job}/result").text


def keep_busy(client: Client, choices: list[Sample], stop: threading.Event, cancels: float) -> None:
    """Send one to three wishes at a time and follow them, until `stop` is set and the last has ended."""
    number = 0
    while not stop.is_set():
        wishes = []
        for _ in range(client.random.randint(1, 3)):
            sample = client.random.choice(choices)
            may_cancel = not sample.record and client.random.random() < cancels
            wishes.append(Wish(f"client-{client.seed}-{number}", sample, may_cancel))
            number += 1
        try:
            for wish in wishes:
                client.submit(wish)
            for wish in wishes:
                client.follow(wish)
        except (RuntimeError, TimeoutError) as error:
            client.surprises.append(str(error))
            return
