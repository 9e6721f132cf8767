"""What a worker has its children do; importing this imports torch, once for all of them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from functools import partial
from importlib import import_module
from pathlib import Path

from mdtree.data import load_data
from mdtree.diagnoser import default_diagnoser, read_diagnoser
from mdtree.service.data_folder import DataFolder
from mdtree.service.jobs import Blame, Failure, Job, JobRequest
from mdtree.service.settings import ServiceSettings
from mdtree.service.storage.store import Store
from mdtree.service.work.confinement import Report
from mdtree.service.work.measuring import Task, measure_uploads
from mdtree.service.work.reading import UploadedFile, Uploads, read_uploads

_IMPORTED_LATE = (
    *("landscape.measure", "landscape.weight_noise", "landscape.pyhessian_backend", "mdtree.diagnosis_views"),
    *("torch.utils.serialization.config", "torch.fx.experimental.symbolic_shapes", "pyarrow.pandas_compat"),
)
"""What a measurement imports when it comes to it: once for all children takes half a second less of each."""


class Children:
    """The work of one worker's children, with everything loaded that they share.

    Raises
    ------
    InputError
        The operator's diagnoser cannot be read.
    """

    def __init__(self, settings: ServiceSettings) -> None:
        self._settings = settings
        self._folder = DataFolder(settings.data_dir)
        self._diagnoser = read_diagnoser(settings.diagnoser) if settings.diagnoser else default_diagnoser()
        for name in _IMPORTED_LATE:
            with contextlib.suppress(ImportError):  # another version of its package
                import_module(name)
        load_data("digits", Path())  # and scikit-learn

    def files_of(self, job: Job, store: Store) -> Uploads | Failure:
        """Where the files of a job lie; a failure where one is no longer there."""
        request = job.request
        assert request is not None
        found: dict[str, UploadedFile] = {}
        for id in request.files:
            file = store.file(job.owner, id)
            if file is None:
                return Failure(Blame.INPUT, f"the uploaded file {id} was deleted; send it and the job again")
            found[id] = UploadedFile(self._folder.upload(file), file.name)
        data = request.data
        return Uploads(
            checkpoint=found[request.checkpoint],
            siblings=tuple(found[id] for id in request.siblings),
            start=None if request.init is None else found[request.init],
            data=None if data is None or data.file is None else found[data.file],
            data_options={} if data is None else data.options,
            weights=request.weights,
        )

    def largest(self, files: Uploads) -> int:
        """Bytes of the largest of the files."""
        given = (files.checkpoint, *files.siblings, files.start, files.data)
        return max(file.path.stat().st_size for file in given if file is not None)

    def reading(self, files: Uploads, work: Path) -> Callable[[Report], None]:
        """What the first child does."""
        return partial(read_uploads, files, work.absolute())

    def measuring(self, request: JobRequest, work: Path) -> Callable[[Report], None]:
        """What the second child does."""
        task = Task(request, self._settings.registry, self._diagnoser, self._settings.device)
        return partial(measure_uploads, task, work.absolute())
