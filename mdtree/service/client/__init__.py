"""The Python client of a service; of other packages it imports httpx alone."""

from __future__ import annotations

from mdtree.service.client.remote import Details, RemoteFile, RemoteJob, Result
from mdtree.service.client.service_client import Client

__all__ = ["Client", "Details", "RemoteFile", "RemoteJob", "Result"]
