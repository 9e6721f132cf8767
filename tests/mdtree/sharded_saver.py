"""One of several processes that train a network together and save it as a distributed checkpoint (run as a script)."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import Shard, distribute_tensor


def network() -> nn.Module:
    """Five rows over two processes: the parts are of different sizes. One row: a process has none of it."""
    torch.manual_seed(4)
    return nn.Sequential(nn.Linear(3, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 1))


def save(rank: int, processes: int, folder: Path) -> None:
    """Train two steps under fully_shard; the first process writes the whole weights beside the checkpoints."""
    dist.init_process_group("gloo", init_method=f"file://{folder / 'meeting'}", rank=rank, world_size=processes)
    mesh = init_device_mesh("cpu", (processes,))
    model = fully_shard(network(), mesh=mesh)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, weight_decay=0.1)
    for step in range(2):
        # the same on every process: buffers are not sharded, and any one process writes its own
        inputs = torch.randn(8, 3, generator=torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        model(inputs).square().mean().backward()
        optimizer.step()
    weights, state = get_state_dict(model, optimizer)
    dcp.save({"model": weights, "optimizer": state, "epoch": 2}, checkpoint_id=folder / "nested")
    flat = get_state_dict(model, optimizer, options=StateDictOptions(flatten_optimizer_state_dict=True))
    dcp.save({**flat[0], "optimizer": flat[1]}, checkpoint_id=folder / "flat")
    columns = torch.arange(42.0).reshape(3, 2, 7)
    dcp.save({"columns": distribute_tensor(columns, mesh, [Shard(2)])}, checkpoint_id=folder / "columns")
    whole = get_state_dict(model, [], options=StateDictOptions(full_state_dict=True, cpu_offload=True))[0]
    if rank == 0:
        torch.save(whole, folder / "whole.pt")
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    save(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
    # everything is written; now and then torch's own threads abort the interpreter while it shuts down
    os._exit(0)
