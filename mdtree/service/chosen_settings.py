"""The settings of a service: what its command line says, else its file, else the defaults."""

from __future__ import annotations

import re
from collections.abc import Mapping, MutableMapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import platformdirs

from mdtree.diagnoser import read_diagnoser
from mdtree.errors import InputError
from mdtree.service.guarding.hosts import Hosts
from mdtree.service.settings import ServiceSettings
from mdtree.service.settings_file import SettingsFile, read_settings_file
from mdtree.service.token_file import VARIABLE, read_token_file, take_token
from mdtree.service.tokens import Tokens
from mdtree.specification import shown

GRACE_SECONDS = 30.0

LONGEST_DAYS = 36_500

_AS_GIVEN = ("host", "port", "workers", "database", "diagnoser", "device", "allowed_hosts")
_DEVICE = re.compile(r"cpu|mps|cuda(:[0-9]{1,3})?")


def chosen_settings(options: Mapping[str, Any], environment: MutableMapping[str, str]) -> tuple[ServiceSettings, float]:
    """Put together what was said in all places, and check it.

    Parameters
    ----------
    options : mapping
        Of `mdtree serve` by their names; None, or empty, for what was not given.
    environment : mutable mapping
        ``MDTREE_TOKEN`` is taken out of it.

    Returns
    -------
    ServiceSettings
    float
        Seconds for requests and jobs when the service ends.

    Raises
    ------
    InputError
        A file or a value cannot be used, or there are tokens in a file and in the environment.
    """
    file = read_settings_file(options["config"]) if options.get("config") else SettingsFile()
    given = {**file.service, **{name: value for name, value in options.items() if value not in (None, ())}}
    settings = ServiceSettings(
        data_dir=given.get("data_dir") or Path(platformdirs.user_data_dir("mdtree", appauthor=False)) / "service",
        tokens=_tokens(given.get("tokens"), environment),
        registry=file.registry,
        limits=file.limits,
    )
    settings = replace(settings, **{name: given[name] for name in _AS_GIVEN if name in given}, **_durations(given))
    _check(settings)
    grace = given.get("grace", GRACE_SECONDS)
    if not 0 <= grace <= 86_400:
        raise InputError(f"grace = {grace:g}", "seconds, at most 86,400")
    return settings, float(grace)


def _tokens(path: Path | None, environment: MutableMapping[str, str]) -> Tokens:
    one = take_token(environment)
    if path is None:
        return one
    if one:
        raise InputError(f"tokens in {path} and in {VARIABLE}", "one of them", f"unset {VARIABLE}")
    return read_token_file(path)


def _durations(given: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, target, days in (("retention_days", "retention", 1.0), ("unused_upload_hours", "unused_upload", 1 / 24)):
        if name in given:
            if not 0 < given[name] * days <= LONGEST_DAYS:
                raise InputError(f"{name} = {given[name]:g}", f"a time above 0, at most {LONGEST_DAYS:,} days")
            found[target] = timedelta(days=given[name] * days)
    return found


def _check(settings: ServiceSettings) -> None:
    """What a worker or a request would fail at later."""
    if not 0 <= settings.port < 2**16:
        raise InputError(f"port = {settings.port}", "0 to 65535")
    if not 1 <= settings.workers <= 256:
        raise InputError(f"workers = {settings.workers}", "1 to 256")
    if not _DEVICE.fullmatch(settings.device):
        raise InputError(f"device = {shown(settings.device)!r}", "cpu, cuda, cuda:NUMBER or mps")
    Hosts(settings.host, settings.port, settings.allowed_hosts)
    if settings.diagnoser is not None:
        read_diagnoser(settings.diagnoser)
