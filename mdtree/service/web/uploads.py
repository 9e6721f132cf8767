"""Uploads: streamed to a file that nobody sees, counted and hashed on the way, and moved into place when whole."""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

from anyio import CancelScope, to_thread
from starlette.requests import ClientDisconnect, Request

from mdtree.service.display_names import display_name
from mdtree.service.jobs import StoredFile
from mdtree.service.settings import MIB
from mdtree.service.web.api_errors import ApiError, later
from mdtree.service.web.json_body import declared_length, incomplete, too_large
from mdtree.service.web.state import Shared, disk_error

PART_BYTES = MIB
"""What is gathered before a thread writes and hashes it."""


async def receive_upload(request: Request, shared: Shared, owner: str, name: str) -> StoredFile:
    """Store the body of a request as a file of its owner.

    Whatever goes wrong, nothing of it stays. Once this returns, the file and its row are on the disk.

    Raises
    ------
    ApiError
        400 if the body did not come whole; 413, 422 (empty), 429 (quota), 507 or 503 (disk).
    QuotaExceeded, StoreUnavailable
        From the store.
    """
    limit = shared.settings.limits.file_bytes
    said = declared_length(request)
    if said is not None and said > limit:
        raise too_large(limit)
    await to_thread.run_sync(_check_room, shared, owner, said or 0)
    upload = await to_thread.run_sync(_begin, shared)
    try:
        async for part in _parts(request, limit):
            await to_thread.run_sync(upload.write, part)
        if said is not None and said != upload.size:
            raise incomplete()
        if not upload.size:
            raise ApiError(422, "invalid", "the file is empty: the save or the copy did not finish", field="body")
        return await to_thread.run_sync(upload.finish, owner, display_name(name))
    except ClientDisconnect as error:
        raise incomplete() from error
    finally:
        # also when the request is cancelled
        with CancelScope(shield=True):
            await to_thread.run_sync(upload.clean)


def _check_room(shared: Shared, owner: str, size: int) -> None:
    """Refuse before the body is read what would be refused after; the store counts again when it is there."""
    shared.check_space(size)
    allowed = shared.settings.limits.stored_bytes_per_owner
    stored = shared.store.stored_bytes(owner)
    if stored + max(size, 1) > allowed:
        raise later(
            429,
            "quota_exceeded",
            f"this file has {size:,} bytes, beside {stored:,} bytes of earlier uploads; expected {allowed:,} bytes at "
            "most; delete uploads that are no longer needed",
        )


def _begin(shared: Shared) -> Upload:
    try:
        return Upload(shared)
    except OSError as error:
        raise disk_error(error) from error


async def _parts(request: Request, limit: int) -> AsyncIterator[bytes]:
    """The body in parts of about a megabyte."""
    gathered = bytearray()
    count = 0
    async for part in request.stream():
        count += len(part)
        if count > limit:
            raise too_large(limit)
        gathered += part
        if len(gathered) >= PART_BYTES:
            yield bytes(gathered)
            gathered.clear()
    if gathered:
        yield bytes(gathered)


class Upload:
    """A file that is coming in; all methods block.

    Attributes
    ----------
    id : str
        Of the file to be.
    size : int
        Bytes so far.
    """

    def __init__(self, shared: Shared) -> None:
        self.id = secrets.token_hex(16)
        self.size = 0
        self._shared = shared
        self._digest = hashlib.sha256()
        self._kept = False
        self._path: Path = shared.folder.incoming / self.id
        self._folder: Path = shared.folder.files / self.id
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.fdopen(os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb", buffering=0)

    def write(self, part: bytes) -> None:
        """Append and hash a part, as long as the disk stays above its floor."""
        self._shared.on_upload(len(part))
        self._shared.check_space(len(part))
        try:
            view = memoryview(part)
            while view:
                view = view[self._file.write(view) :]
        except OSError as error:
            raise disk_error(error) from error
        self._digest.update(part)
        self.size += len(part)

    def finish(self, owner: str, name: str) -> StoredFile:
        """Move it into place, then add its row: a row without its file is never there, not even after a crash."""
        file = StoredFile(self.id, owner, name, self.size, self._digest.hexdigest(), datetime.now(UTC))
        target = self._shared.folder.upload(file)
        try:
            os.fsync(self._file.fileno())
            self._file.close()
            target.parent.mkdir(parents=True, mode=0o700)
            os.rename(self._path, target)
            for folder in (target.parent, target.parent.parent):
                _sync(folder)
        except OSError as error:
            raise disk_error(error) from error
        self._shared.store.add_file(file, self._shared.settings.limits)
        self._kept = True
        return file

    def clean(self) -> None:
        """Remove what is not to stay."""
        self._file.close()
        self._path.unlink(missing_ok=True)
        if not self._kept:
            shutil.rmtree(self._folder, ignore_errors=True)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
