"""A process that takes and ends jobs until none waits: python service_claimers.py URL NAME THREADS.

For each job it prints the id, the token of the claim, and whether the end was accepted.
"""

from __future__ import annotations

import sys
import threading
from datetime import timedelta

from mdtree.service.jobs import Answer, Progress
from mdtree.service.storage.store import Store


def work(store: Store, worker: str) -> None:
    """Take jobs and end them; the answer holds the token, so that it tells who wrote it."""
    while claim := store.claim(worker):
        store.progress(claim, Progress("measuring", worker, 0.5))
        ended = store.finish(claim, Answer(claim.token, {"verdict": worker}), timedelta(days=1))
        sys.stdout.write(f"{claim.job.id} {claim.token} {ended}\n")  # whole lines: print writes the end apart


if __name__ == "__main__":
    url, name, count = sys.argv[1:]
    opened = Store(url)
    print("ready", flush=True)
    sys.stdin.readline()  # all start together
    threads = [threading.Thread(target=work, args=(opened, f"{name}.{number}")) for number in range(int(count))]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
