"""The least that an application of the same framework can do with a record: parse the JSON and send it back.

    python benchmarks/service_echo.py PORT

What the service adds to this is deciding, keeping the answer on the disk, and its guards.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import uvicorn
from fastapi import Body, FastAPI

application = FastAPI()


@application.post("/v1/records", status_code=201)
async def echo(record: dict[str, Any] = Body()) -> dict[str, Any]:  # noqa: B008 - FastAPI declares bodies this way
    return record


async def main(port: int) -> None:
    config = uvicorn.Config(application, port=port, http="h11", loop="asyncio", access_log=False, log_level="warning")
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    print(f"http://127.0.0.1:{port}", flush=True)
    await serving


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
