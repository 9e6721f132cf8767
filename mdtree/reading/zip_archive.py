"""The zip archive that torch.save writes: looked at, and read through once for its checksums, before it is loaded."""

from __future__ import annotations

import hashlib
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any, BinaryIO

from mdtree.errors import InputError
from mdtree.reading.file_kinds import DAMAGED, RE_SAVE, refuse_other_archives
from mdtree.specification import shown

MAX_PICKLE_BYTES = 64 * 2**20
MAX_DIRECTORY_BYTES = 16 * 2**20
_CHUNK = 2**20
_END = struct.Struct("<4s4H2LH")
_LOCATOR = struct.Struct("<4sLQL")
_LARGE_END = struct.Struct("<4sQ2H2L4Q")
_MOST = 0xFFFFFFFF  # in the first end: the second one tells
_IS_FOLDER = 0x10  # among the attributes of a member: torch's reader then reads nothing of it, whatever it holds


def examine_zip(handle: BinaryIO, path: Path, size: int) -> tuple[bytes, str]:
    """The pickle in a file of torch.save, and the SHA-256 of the whole file, in one pass over it.

    Parameters
    ----------
    handle : binary file
        The file, anywhere.
    path : Path
        Named in errors.
    size : int
        Its bytes.

    Raises
    ------
    InputError
        If torch.save did not write it, it would grow when read, is cut off, or a checksum does not hold.
    """
    try:
        _check_end(handle, size)
        with zipfile.ZipFile(handle) as archive:
            members = archive.infolist()
        pickled = _checked(members, path, size)
        return _read_through(handle, sorted(members, key=lambda member: member.header_offset), pickled, path)
    except InputError:
        raise
    except Exception as error:  # zipfile raises BadZipFile, struct.error, EOFError, NotImplementedError, ... on damage
        raise InputError(f"{path} is truncated or damaged: {DAMAGED}", "", "save or copy it again") from error


def _check_end(handle: BinaryIO, size: int) -> None:
    """The archive ends with its directory and nothing after it, so that all readers find the same one.

    torch writes the end twice, the second time as archives of any size have it: both have to tell the same.
    """
    end = size - _END.size
    handle.seek(max(0, end))
    signature, *_, count, length, start, comment = _END.unpack(handle.read(_END.size))
    if signature != b"PK\x05\x06" or comment:
        raise zipfile.BadZipFile("no end of the directory")
    handle.seek(max(0, end - _LOCATOR.size))
    locator, _, place, _ = _LOCATOR.unpack(handle.read(_LOCATOR.size))
    if locator == b"PK\x06\x07":
        handle.seek(place)
        *_, large_count, large_length, large_start = _LARGE_END.unpack(handle.read(_LARGE_END.size))
        same = count in (large_count, 0xFFFF) and length in (large_length, _MOST) and start in (large_start, _MOST)
        if not same or place + _LARGE_END.size != end - _LOCATOR.size:
            raise zipfile.BadZipFile("two ends that tell different things")
        end, length, start = place, large_length, large_start
    if length > MAX_DIRECTORY_BYTES or start + length != end:
        raise zipfile.BadZipFile("a directory beyond all bounds, or not at the end")


def _checked(members: list[zipfile.ZipInfo], path: Path, size: int) -> zipfile.ZipInfo:
    """The member that is the pickle, of an archive that looks as torch.save writes it."""
    refuse_other_archives([member.filename for member in members], path)
    if sum(member.file_size for member in members) > size:
        raise InputError(f"the members of {path} claim more bytes than the file has ({size:,})", "", RE_SAVE)
    if any(member.external_attr & _IS_FOLDER for member in members):
        raise zipfile.BadZipFile("a member that says it is a folder")
    if any(member.compress_type != zipfile.ZIP_STORED or member.flag_bits & 1 for member in members):
        raise InputError(f"{path} is a compressed archive, which torch.save never writes", "", RE_SAVE)
    pickled = next(member for member in members if member.filename.rpartition("/")[2] == "data.pkl")
    if pickled.file_size > MAX_PICKLE_BYTES:
        raise InputError(
            f"{shown(pickled.filename)} in {path} has {pickled.file_size:,} bytes",
            f"at most {MAX_PICKLE_BYTES:,}",
            RE_SAVE,
        )
    return pickled


def _read_through(
    handle: BinaryIO, members: list[zipfile.ZipInfo], wanted: zipfile.ZipInfo, path: Path
) -> tuple[bytes, str]:
    """Read the file from its first byte to its last: every byte is hashed, every member's checksum compared."""
    handle.seek(0)
    digest = hashlib.sha256()
    held = bytearray()
    place = 0

    def take(length: int, member: zipfile.ZipInfo | None = None) -> Any:
        nonlocal place
        checksum, last = 0, b""
        while length:
            last = handle.read(min(length, _CHUNK))
            if not last:
                raise EOFError
            digest.update(last)
            if member is not None:
                checksum = zlib.crc32(last, checksum)
            if member is wanted:
                held.extend(last)
            length -= len(last)
            place += len(last)
        return last if member is None else checksum  # what is not in a member is asked for in less than a chunk

    if members[0].header_offset:  # something stands in front, and readers differ in where they then look for members
        raise zipfile.BadZipFile("bytes before the first member")
    for member in members:
        if member.header_offset < place or member.compress_size != member.file_size:
            raise zipfile.BadZipFile("members that overlap")
        take(member.header_offset - place)
        lengths = struct.unpack("<4s22x2H", take(30))
        if lengths[0] != b"PK\x03\x04":
            raise zipfile.BadZipFile("no member where one should be")
        name = take(lengths[1])
        if name != member.orig_filename.encode("utf-8" if member.flag_bits & 0x800 else "cp437"):
            raise zipfile.BadZipFile("a member by two names")
        take(lengths[2])
        if take(member.file_size, member) != member.CRC:
            raise InputError(
                f"{path} is damaged: the checksum of {shown(member.filename)} does not hold",
                "",
                "save or copy it again",
            )
    while rest := handle.read(_CHUNK):
        digest.update(rest)
    return bytes(held), digest.hexdigest()
