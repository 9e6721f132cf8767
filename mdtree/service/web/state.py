"""What the routes of one application share."""

from __future__ import annotations

import errno
import logging
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

from starlette.requests import Request

from mdtree.diagnoser_schema import Diagnoser
from mdtree.service.data_folder import DataFolder
from mdtree.service.drawing.rendering import Renderer
from mdtree.service.settings import ServiceSettings
from mdtree.service.storage.store import Store
from mdtree.service.web.api_errors import ApiError, later, storage_full
from mdtree.service.web.tickets import Tickets

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

_log = logging.getLogger("mdtree.service")


@dataclass(frozen=True)
class Shared:
    """The settings, and what answers requests.

    Attributes
    ----------
    settings : ServiceSettings
    store : Store
    diagnoser : Diagnoser
        Answers records, and stands behind reports and the map of the zoo.
    tickets : Tickets
    renderer : Renderer
    on_upload : function of a number of bytes
        Is told of every part of an upload that came.
    """

    settings: ServiceSettings
    store: Store
    diagnoser: Diagnoser = field(repr=False)
    tickets: Tickets
    renderer: Renderer
    on_upload: Callable[[int], None]

    @cached_property
    def folder(self) -> DataFolder:
        """Where uploads and reports lie."""
        return DataFolder(self.settings.data_dir)

    def check_space(self, wanted: int = 0) -> None:
        """Whether the disk has room for so many bytes above its floor.

        Raises
        ------
        ApiError
            507; 503 if the data folder is gone.
        """
        try:
            free = shutil.disk_usage(self.settings.data_dir).free
        except OSError as error:
            raise disk_error(error) from error
        if free - wanted < self.settings.limits.disk_floor_bytes:
            raise storage_full()


def shared(request: Request) -> Shared:
    """What the application of a request shares."""
    found = request.app.state.shared
    assert isinstance(found, Shared)
    return found


def disk_error(error: OSError) -> ApiError:
    """What a client hears of a disk that is full, read-only or gone; the log says which."""
    _log.error("the data folder failed: %s", error)
    if error.errno in _FULL:
        return storage_full()
    return later(503, "storage_unavailable", "the server cannot write to its data folder; tell its operator")
