"""Rows of a batch that each process of a torchrun holds in, the rows of all of them, with gradient, out."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Processes:
    """Where this process stands among those that train together; alone where torchrun did not start it."""

    rank: int = 0
    count: int = 1
    on_this_node: int = 1

    @classmethod
    def from_environment(cls) -> Processes:
        """As torchrun tells each of its processes."""
        return cls(
            rank=int(os.environ.get("RANK", "0")),
            count=int(os.environ.get("WORLD_SIZE", "1")),
            on_this_node=int(os.environ.get("LOCAL_WORLD_SIZE", "1")),
        )

    def rows(self, n_rows: int) -> slice:
        """Those of this process, of a batch of n_rows that divides by their count."""
        share = n_rows // self.count
        return slice(self.rank * share, (self.rank + 1) * share)


class _GatherRows(torch.autograd.Function):
    """All-gather; its gradient is the sum of what each process's loss makes of the rows of this one."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        ctx.n_rows = len(rows)
        everyones = [torch.empty_like(rows) for _ in range(dist.get_world_size())]
        dist.all_gather(everyones, rows)
        return torch.cat(everyones)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Tensor:
        gradient: Tensor = gradients[0].contiguous().clone()
        dist.all_reduce(gradient)
        start = dist.get_rank() * ctx.n_rows
        return gradient[start : start + ctx.n_rows]


def gather_rows(rows: Tensor) -> Tensor:
    """The rows (B, ...) of every process, as many of each, in the order of their ranks: (processes * B, ...).

    A loss of them that every process computes alike has, averaged over the processes, its gradient of one process.
    """
    if not (dist.is_available() and dist.is_initialized()):
        return rows
    gathered: Tensor = _GatherRows.apply(rows.contiguous())  # type: ignore[no-untyped-call] # torch gives no types
    return gathered
