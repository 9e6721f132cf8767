"""What a file is that is no checkpoint, told by its first bytes, and what to do about it."""

from __future__ import annotations

import re
import tarfile
from pathlib import Path
from typing import BinaryIO, NoReturn

from mdtree.errors import InputError
from mdtree.reading.pickle_scan import executes, globals_asked_for
from mdtree.specification import shown

RE_SAVE = "re-save the weights alone with torch.save(model.state_dict(), PATH) or as .safetensors"
DAMAGED = "the save or the copy did not finish"

_KERAS = "re-save its weights from Keras as .npz and load them into a torch network, or train in torch"
_JOBLIB = "load it where it was made and save the weights alone with torch.save(model.state_dict(), PATH)"
_EXPORT = "add --trust if the file is yours (loading a program runs code from it), or " + RE_SAVE
_ARRAY = "weights: save a dict of tensors with torch.save; data: give it with --data npz:FILE"

_MAGIC = (
    (b"version https://git-lfs", "is a Git LFS pointer, not the file it stands for", "run: git lfs pull"),
    (b"\x1f\x8b", "is compressed with gzip", "unpack it with gunzip"),
    (b"BZh", "is compressed with bzip2", "unpack it with bunzip2"),
    (b"\xfd7zXZ", "is compressed with xz", "unpack it with unxz"),
    (b"\x28\xb5\x2f\xfd", "is compressed with zstd", "unpack it with unzstd"),
    (b"7z\xbc\xaf\x27\x1c", "is a 7z archive", "unpack it"),
    (b"Rar!", "is a RAR archive", "unpack it"),
    (b"\x89HDF", "is an HDF5 file, as Keras saves them", _KERAS),
    (b"\x93NUMPY", "is a numpy array", _ARRAY),
    (b"GGUF", "is a GGUF file of quantised weights", "give the checkpoint it was converted from"),
    (b"PAR1", "is a Parquet file", "as data, give it with --data parquet:FILE"),
    (b"%PDF", "is a PDF document", "check the path"),
    (b"\x89PNG", "is a picture", "check the path"),
    (b"\xff\xd8\xff", "is a picture", "check the path"),
)
_ZLIB = (b"x\x01", b"x\x5e", b"x\x9c", b"x\xda")


def refuse_other_formats(head: bytes, path: Path) -> None:
    """Name a file that is something else by its first 512 bytes.

    Raises
    ------
    InputError
        With the mend that helps for that format.
    """
    for magic, what, mend in _MAGIC:
        if head.startswith(magic):
            raise InputError(f"{path} {what}", "a checkpoint", mend)
    if re.match(rb"\s*<(!doctype|html|\?xml|head|body)", head, re.IGNORECASE):
        raise InputError(
            f"{path} is an HTML page", "a checkpoint", "download the file itself, not the page that shows it"
        )
    if head[:2] in _ZLIB:
        raise InputError(f"{path} is compressed with zlib, as joblib saves objects", "a checkpoint", _JOBLIB)
    if head[4:8] == b"TFL3":
        raise InputError(f"{path} is a TensorFlow Lite network", "a checkpoint", "give the network it was made from")
    # ONNX is a protobuf: field 1 the version of its form, then field 2 or 8, the producer's name or the operators
    if head[:1] == b"\x08" and head[1:2] < b"\x20" and head[2:3] in (b"\x12", b"\x42", b"\x3a"):
        raise InputError(
            f"{path} is an ONNX network", "a checkpoint", f"in the program it was exported from, {RE_SAVE}"
        )
    if _is_tar(head):
        raise InputError(f"{path} is a tar archive", "a checkpoint", f"unpack it, or {RE_SAVE}")


def refuse_unknown(handle: BinaryIO, head: bytes, path: Path) -> NoReturn:
    """Name what is neither safetensors nor a file of torch.save: a plain pickle, a text, or bytes of no known format.

    Raises
    ------
    InputError
        Always.
    """
    asked = globals_asked_for(handle)
    if asked is not None:
        refuse_executing(asked, path)
        if any(name.startswith(("joblib.", "sklearn.")) for name in asked):
            raise InputError(f"{path} is a pickle of joblib or scikit-learn", "a checkpoint of torch.save", _JOBLIB)
        raise InputError(f"{path} is a plain pickle file, which is never loaded", "a checkpoint of torch.save", RE_SAVE)
    if path.suffix == ".safetensors" and len(head) < 512:
        raise InputError(f"{path} is truncated or damaged: {DAMAGED}", "", "save or copy it again")
    if re.fullmatch(rb"[\t\n\r\x20-\x7e\x80-\xff]+", head):
        raise InputError(f"{path} is a text file", "a checkpoint made by torch.save or safetensors", "check the path")
    raise InputError(
        f"{path} is in no known format, or damaged", "a checkpoint made by torch.save or safetensors", RE_SAVE
    )


def refuse_other_archives(names: list[str], path: Path) -> None:
    """Name a zip archive that is something else, by its members.

    Raises
    ------
    InputError
        With the mend that helps for that format.
    """
    last = [name.rpartition("/")[2] for name in names]
    if "constants.pkl" in last or any("/code/" in name for name in names):
        mend = "re-save its weights with torch.save(torch.jit.load(PATH).state_dict(), ...) if the file is yours"
        raise InputError(f"{path} is a TorchScript program", "weights", mend)
    if "archive_format" in last or any(name.startswith("serialized_exported_program") for name in last):
        raise InputError(f"{path} is a program of torch.export", "weights", _EXPORT)
    if "model.weights.h5" in last:
        raise InputError(f"{path} is a Keras network", "a checkpoint", _KERAS)
    if any(name.endswith(".npy") for name in last):
        raise InputError(f"{path} is a numpy archive", "a checkpoint", "as data, give it with --data npz:FILE")
    # one folder, and no two names that a reader which ignores case would take for one
    folders = {name.partition("/")[0] for name in names}
    outside = any(part in ("", ".", "..") for name in names for part in name.split("/"))
    if last.count("data.pkl") != 1 or len({n.lower() for n in names}) != len(names) or len(folders) != 1 or outside:
        raise InputError(f"{path} is a zip archive that torch.save did not write", "a checkpoint", RE_SAVE)


def refuse_executing(asked: list[str], path: Path) -> None:
    """Name the first function a pickle asks for that runs code.

    Raises
    ------
    InputError
        If there is one.
    """
    for name in asked:
        if executes(name):
            raise executing_error(name, path)


def executing_error(name: str, path: Path) -> InputError:
    """The sentence for a pickle that asks to run code."""
    return InputError(
        f"{path} asks to call {shown(name)}: it is malicious or damaged, and nothing in it was run", "weights", RE_SAVE
    )


def folder_error(path: Path) -> InputError:
    """The sentence for a folder where a file was asked for."""
    weights = [name for name in ("model.safetensors", "pytorch_model.bin") if (path / name).is_file()]
    if weights:
        return InputError(f"{path} is a folder", "a file", f"give {path / weights[0]}")
    if (path / "saved_model.pb").exists():
        return InputError(f"{path} is a TensorFlow network", "a checkpoint", _KERAS)
    if (path / ".metadata").exists():
        return InputError(
            f"{path} is a distributed checkpoint",
            "a file",
            "give the folder to `open_checkpoint`, which reads it whole (torch's own converter runs code from it)",
        )
    return InputError(f"{path} is a folder", "a file", "give the checkpoint inside it")


def _is_tar(head: bytes) -> bool:
    try:
        tarfile.TarInfo.frombuf(head, "utf-8", "surrogateescape")
    except (tarfile.HeaderError, ValueError):
        return False
    return True
