"""Damaged and lying archives and old files of torch.save."""

from __future__ import annotations

import io
import pickle
import struct
import zipfile

from hostile_contents import Bytes
from hostile_pickles import STATE, called, long, old_parts, pickle_of, saved

PLAIN = "re-save the weights alone"
DAMAGED = "is truncated or damaged"


def members(*extra: tuple[str, bytes], compression: int = zipfile.ZIP_STORED, first: bool = False) -> bytes:
    """A file of torch.save with more members, behind its own or before them."""
    source, target = zipfile.ZipFile(io.BytesIO(saved())), io.BytesIO()
    own = [(name, source.read(name)) for name in source.namelist()]
    with zipfile.ZipFile(target, "w", compression) as archive:
        for name, data in [*extra, *own] if first else [*own, *extra]:
            archive.writestr(name, data)
    return target.getvalue()


def patched(data: bytes, place: int, value: bytes) -> bytes:
    return data[:place] + value + data[place + len(value) :]


def flipped(data: bytes, place: int) -> bytes:
    return patched(data, place, bytes([data[place] ^ 4]))


def directory_of(data: bytes) -> int:
    """Where the central directory of an archive starts."""
    return int.from_bytes(data[data.rindex(b"PK\x05\x06") + 16 :][:4], "little")


def _greedy_pickle() -> bytes:
    return b"\x80\x02" + called("builtins", "bytearray", long(10**10)) + b"."


def _bomb() -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr("archive/data.pkl", pickle_of(saved()))
        archive.writestr("archive/version", b"3\n")
        zeros = bytes(2**24)
        with archive.open("archive/data/0", "w", force_zip64=True) as member:
            for _ in range(64):
                member.write(zeros)
    return target.getvalue()


def _overlapping() -> bytes:
    """Two thousand names in the directory for one and the same member."""
    data = saved()
    start, end = directory_of(data), data.rindex(b"PK\x05\x06")
    entry = data[start:end].split(b"PK\x01\x02")[1]
    many = b"".join(b"PK\x01\x02" + entry for _ in range(2000))
    tail = struct.pack("<4sHHHHIIH", b"PK\x05\x06", 0, 0, 2000, 2000, len(many), start, 0)
    return data[:start] + many + tail


def _twice(first: bytes, second: bytes) -> bytes:
    """Two archives in a row: which one is read depends on who reads."""
    return first + second


def _in_comment() -> bytes:
    """A second archive in the comment of the first."""
    inner, outer = members(), bytearray(saved())
    outer[-2:] = struct.pack("<H", len(inner))
    return bytes(outer) + inner


def _zip64_lie() -> bytes:
    """Sizes that a zip64 field puts at 2**62."""
    data = saved()
    start, end = directory_of(data), data.rindex(b"PK\x05\x06")
    parts = data[start:end].split(b"PK\x01\x02")[1:]
    part = parts[0]
    length, extra, comment = struct.unpack("<HHH", part[24:30])
    assert comment == 0
    lie = struct.pack("<HHQQ", 1, 16, 2**62, 2**62)
    parts[0] = part[:16] + b"\xff" * 8 + struct.pack("<HHH", length, len(lie), 0) + part[30 : 42 + length] + lie
    assert len(part) == 42 + length + extra
    directory = b"".join(b"PK\x01\x02" + part for part in parts)
    tail = struct.pack("<4sHHHHIIH", b"PK\x05\x06", 0, 0, len(parts), len(parts), len(directory), start, 0)
    return data[:start] + directory + tail


def _encrypted() -> bytes:
    data, start = members(), 0
    for mark, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        start = 0
        while (start := data.find(mark, start)) >= 0:
            data = patched(data, start + place, bytes([data[start + place] | 1]))
            start += 4
    return data


def _without_pickle() -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        archive.writestr("archive/data/0", bytes(24))
        archive.writestr("archive/version", b"3\n")
    return target.getvalue()


def _zip_of_zip() -> bytes:
    data = saved()
    for _ in range(5):
        target = io.BytesIO()
        with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("archive.zip", data)
        data = target.getvalue()
    return data


def _payload_flipped() -> bytes:
    data = saved()
    return flipped(data, data.index(STATE["weight"].numpy().tobytes()) + 6)


def _pickle_flipped() -> bytes:
    data = saved()
    return flipped(data, data.index(b"_rebuild_tensor_v2") + 3)


def _old_cut(part: int, keep: int) -> bytes:
    parts = old_parts()
    return b"".join(parts[:part]) + parts[part][:keep]


ZIPS: dict[str, tuple[Bytes, str]] = {
    "deflated bomb": (_bomb, r"claim more bytes than the file has|compressed archive, which torch.save never writes"),
    "deflated, small": (
        lambda: members(("archive/x", bytes(range(256)) * 9), compression=zipfile.ZIP_DEFLATED),
        r"claim more bytes than the file has|compressed archive, which torch.save never writes",
    ),
    "zip in zip in zip": (_zip_of_zip, "is a zip archive that torch.save did not write"),
    "overlapping members": (_overlapping, "is a zip archive that torch.save did not write|claim more bytes"),
    "member outside the folder": (
        lambda: members(("../../evil", b"x")),
        "is a zip archive that torch.save did not write",
    ),
    "member with an absolute name": (
        lambda: members(("/tmp/evil", b"x")),
        "is a zip archive that torch.save did not write",
    ),
    "member outside a folder of the archive": (
        lambda: members(("archive/../../evil", b"x")),
        "is a zip archive that torch.save did not write",
    ),
    "two pickles": (lambda: members(("other/data.pkl", b"N.")), "is a zip archive that torch.save did not write"),
    "two pickles, told apart by case": (
        lambda: members(("archive/DATA.PKL", _greedy_pickle()), first=True),
        "is a zip archive that torch.save did not write",
    ),
    "a decoy in front of the pickle": (
        lambda: members(("archive/decoydata.pkl", b"N."), first=True).replace(pickle_of(saved()), _greedy_pickle()),
        DAMAGED,
    ),
    "two archives in a row": (lambda: _twice(saved(), members(("archive/x", b"x"))), DAMAGED),
    "two ends that tell different things": (lambda: patched(saved(), len(saved()) - 12, b"\x07\x00"), DAMAGED),
    "an archive in the comment of another": (_in_comment, DAMAGED),
    "no pickle": (_without_pickle, "is a zip archive that torch.save did not write"),
    "empty archive": (lambda: b"PK\x05\x06" + bytes(18), "is a zip archive that torch.save did not write"),
    "zip64 sizes of 2**62": (_zip64_lie, DAMAGED + "|claim more bytes than the file has"),
    "encrypted": (_encrypted, "is a compressed archive|damaged"),
    "bytes before the archive": (lambda: b"#!/bin/sh\nrm -rf x\n" + saved(), "known format|text file"),
    "megabyte behind the archive": (lambda: saved() + bytes(2**20), DAMAGED),
    "kilobyte behind the archive": (lambda: saved() + bytes(2**10), DAMAGED),
    "cut at a third": (lambda: saved()[: len(saved()) // 3], DAMAGED),
    "cut at two thirds": (lambda: saved()[: 2 * len(saved()) // 3], DAMAGED),
    "cut by a byte": (lambda: saved()[:-1], DAMAGED),
    "bit flipped in the weights": (_payload_flipped, "is damaged: the checksum of archive/data/[01] does not hold"),
    "bit flipped in the pickle": (_pickle_flipped, "is damaged: the checksum of archive/data.pkl does not hold"),
    "bit flipped in a local header": (lambda: flipped(saved(), 2), "known format|damaged"),
    "bit flipped in a local name": (lambda: flipped(saved(), 31), DAMAGED),
    "bit flipped in the directory": (lambda: flipped(saved(), directory_of(saved()) + 1), DAMAGED),
    "bit flipped in a directory's checksum": (
        lambda: flipped(saved(), directory_of(saved()) + 16),
        "damaged: the checksum of archive/data.pkl",
    ),
    "bit flipped in a directory's name": (
        lambda: flipped(saved(), directory_of(saved()) + 48),
        "damaged|did not write",
    ),
    "bit flipped in the end of the directory": (lambda: flipped(saved(), len(saved()) - 22), DAMAGED),
    "zeros after the first kilobyte": (lambda: saved()[:1024] + bytes(len(saved()) - 1024), DAMAGED),
}

OLD_FILES: dict[str, tuple[Bytes, str]] = {
    "old file cut in the weights": (lambda: _old_cut(5, -9), "damaged"),
    "old file cut behind its pickles": (lambda: _old_cut(5, 0), "damaged"),
    "old file cut in its content": (lambda: _old_cut(3, 60), "damaged"),
    "old file cut in its first pickle": (lambda: _old_cut(0, 14), "damaged"),
    "old file cut behind its first pickle": (lambda: _old_cut(1, 0), "damaged"),
    "old file, bytes behind its end": (
        lambda: saved(_use_new_zipfile_serialization=False) + bytes(1000),
        "damaged|behind",
    ),
    "old file, storages exchanged": (
        lambda: b"".join([*old_parts()[:4], pickle.dumps(["1", "2"], 2), old_parts()[5]]),
        "damaged",
    ),
    "old file of a billion storages": (
        lambda: b"".join([*old_parts()[:5], struct.pack("<q", 10**9), old_parts()[5][8:]]),
        "damaged",
    ),
    "old file, protocol 1002": (lambda: b"".join([old_parts()[0], pickle.dumps(1002, 2), *old_parts()[2:]]), "damaged"),
}
