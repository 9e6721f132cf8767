"""Small files that would fill the memory or never end in torch's unpickler are refused at once."""

from __future__ import annotations

import collections
import io
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from mdtree.errors import InputError
from mdtree.reading.pickle_audit import MAX_OPCODES, Audit, DamagedPickleError

HEAD = b"\x80\x02"
STORAGE = b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\ntQ"
SET = b"cbuiltins\nset\n"
HOOKS = b"\x89ccollections\nOrderedDict\n)R"


def tensor(size: bytes = b"K\n\x85", stride: bytes = b"K\x01\x85", offset: bytes = b"K\x00") -> bytes:
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + STORAGE + offset + size + stride + HOOKS + b"tR"


def doubled(times: int) -> bytes:
    """A tuple that holds one tuple twice, which holds one tuple twice ..."""
    return b")" + b"".join(b"q%cq%ch%c\x86" % (n, n, n) for n in range(times))


def followed(program: bytes, size: int = 10_000) -> Audit:
    audit = Audit(Path("x.pt"), size)
    audit.follow(HEAD + program + b".")
    return audit


@pytest.mark.parametrize(
    ("program", "message"),
    [
        (b"](" + b"}" * MAX_OPCODES + b"e", "makes too many objects; expected a pickle of at most 1,000,000 steps"),
        (b"](" + b"ca\nB\n" * 220_000 + b"".join(b"ca\nC%d\n" % n for n in range(30)) + b"e", "makes too many objects"),
        (b"](" + b"".join(b"ca\nC%d\n" % n for n in range(1001)) + b"e", "names more than 1,000 classes"),
        (b"}" + doubled(60) + b"Ns", "has dicts or sets of tuples or huge numbers"),
        (b"cbuiltins\nset\n](" + doubled(60) + b"e\x85R", "has dicts or sets of tuples or huge numbers"),
        (b"ccollections\nCounter\n](" + doubled(60) + b"e\x85R", "asks to call collections.Counter in a way"),
        (b"}(" + b"".join(b"\x8a\x0a%cxxxxxxxxxN" % (n % 256) for n in range(4097)) + b"u", "has dicts or sets of tup"),
        (b"](" + SET + b"q\x01](" + b"K\x01" * 2000 + b"e\x85q\x02" + b"h\x01h\x02R" * 600 + b"e", "copies its values"),
        (b"c_codecs\nencode\nX\x02\0\0\0abX\x03\0\0\0hex\x86R", "asks to call _codecs.encode in a way no checkpoint"),
        (SET + tensor(stride=b"K\0\x85", size=b"J\xff\xff\xff\x7f\x85") + b"\x85R", "asks to call builtins.set in a"),
        (tensor(size=b"K\x0b\x85"), "a tensor in x.pt reaches beyond its storage of 10 elements"),
        (tensor(offset=b"K\x01"), "a tensor in x.pt reaches beyond its storage of 10 elements"),
        (tensor(stride=b"J\xff\xff\xff\xff\x85"), "holds what is no plain tensor of numbers (torch._ut"),
        (b"ctorch._utils\n_rebuild_parameter\nK\x01\x88}\x87R", "holds what is no plain tensor of numbers (torch._ut"),
        (b"cbuiltins\ngetattr\ncbuiltins\neval\nX\x04\0\0\0evil\x86R", "asks to call builtins.getattr: it is mali"),
        (b"cbuiltins\nset\n)\x81", "asks to call builtins.set in a way no checkpoint needs"),
    ],
)  # fmt: skip
def test_what_goes_beyond_the_bounds_is_refused(program: bytes, message: str) -> None:
    started = time.process_time()
    with pytest.raises(InputError) as caught:
        followed(program, size=len(program) + 10_000)
    assert message in str(caught.value)
    assert time.process_time() - started < 8


@pytest.mark.parametrize(
    "program",
    [
        b"", b"\x8c\x05posix", b"X\xff\xff\xff\xffabc", b"h\x07", b"\x86", b"e", b"K\x01)R", b"K\x01}b", b"}K\x01Nub",
        tensor() + b"}b", b"K\x01K\x02a", b"ccollections\nOrderedDict\n)R}X\x05\x00\x00\x00itemsNsb", b"K\x01Q", b"0",
    ],
)  # fmt: skip
def test_what_is_no_whole_pickle_is_told_apart(program: bytes) -> None:
    with pytest.raises(DamagedPickleError):
        followed(program)


def test_storages_may_not_claim_more_than_the_file_has() -> None:
    assert followed(tensor(), size=40).calls.stored == 40
    with pytest.raises(InputError, match=r"the tensors of x\.pt claim more bytes than the file has \(39\)"):
        followed(tensor(), size=39)


def test_classes_that_get_items_are_told() -> None:
    audit = followed(b"(ca\nD\n)\x81K\x01K\x02sca\nL\n)\x81K\x01aca\nP\n)R}bt")
    assert audit.filled == {"a.D": dict, "a.L": list}
    assert list(audit.names) == ["a.D", "a.L", "a.P"]
    with pytest.raises(InputError, match=r"holds a a\.L with items and attributes"):
        followed(b"ca\nL\n)\x81K\x01a}b")


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(2, 2) for _ in range(30)])
        self.layers[0].weight.decayed = False  # type: ignore[assignment]


def contents() -> list[Any]:
    model = Net()
    optimizer = torch.optim.Adam(model.parameters())
    sum(parameter.sum() for parameter in model.parameters()).backward()
    optimizer.step()
    marked = torch.ones(3)
    marked.mark = 1  # type: ignore[attr-defined]
    return [
        model.state_dict(),
        {"model": model, "optimizer": optimizer.state_dict()},
        {"set": {1, "a"}, "n": collections.Counter("aab"), "s": torch.Size([1]), (1, 2): 10**40, "c": 1j, "b": b"\xff"},
        [torch.ones(2, dtype=torch.float8_e4m3fn), torch.ones(2, dtype=torch.bfloat16), torch.empty(3, device="meta")],
        [torch.ones(3).expand(5, 3), torch.arange(12.0).reshape(3, 4).T[1:], torch.ones(0, 3), torch.tensor(1)],
        [marked, nn.Parameter(torch.ones(2)), torch.device("cpu"), torch.float16],
    ]  # fmt: skip


@pytest.mark.parametrize("number", range(6))
def test_what_torch_saves_is_followed_to_its_end(number: int) -> None:
    buffer = io.BytesIO()
    torch.save(contents()[number], buffer)
    with zipfile.ZipFile(buffer) as archive:
        data = archive.read("archive/data.pkl")
    audit = Audit(Path("x.pt"), len(buffer.getvalue()))
    assert audit.follow(data) == len(data)
