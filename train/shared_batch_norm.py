"""A network with batch norm in, the same network whose batch norm takes its statistics over all processes out."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from train.processes import gather_rows


class SharedBatchNorm(_BatchNorm):
    """Batch norm over the rows of all processes, (B, C, ...) in each; names and meaning of its state are torch's.

    torch's own SyncBatchNorm runs on no CPU; this one takes the same way on both.
    """

    def _check_input_dim(self, input: Tensor) -> None:  # noqa: A002 - torch's name
        if input.dim() < 2:
            raise ValueError(f"batch norm of {input.dim()} dimensions; expected (B, C, ...)")

    def forward(self, x: Tensor) -> Tensor:
        """Normalise, in float32."""
        if not self.training:
            return super().forward(x)
        var, mean = torch.var_mean(x.float(), dim=[0, *range(2, x.dim())], correction=0)  # (C,), (C,)
        means, variances = gather_rows(torch.stack((mean, var))[None]).unbind(dim=1)  # (processes, C) each
        mean = means.mean(dim=0)
        var = (variances + (means - mean).square()).mean(dim=0)  # of all rows, for every process has as many
        self._follow(mean.detach(), var.detach(), n_values=len(means) * x.numel() // x.shape[1])
        shape = (1, -1, *[1] * (x.dim() - 2))
        scale = self.weight * torch.rsqrt(var + self.eps)
        return ((x.float() - mean.view(shape)) * scale.view(shape) + self.bias.view(shape)).to(x.dtype)

    @torch.no_grad()
    def _follow(self, mean: Tensor, var: Tensor, *, n_values: int) -> None:
        running_mean, running_var, n_batches = self.running_mean, self.running_var, self.num_batches_tracked
        if running_mean is None or running_var is None or n_batches is None or self.momentum is None:
            raise ValueError("batch norm without running statistics; expected those of torch's defaults")
        n_batches.add_(1)
        running_mean.lerp_(mean, self.momentum)
        running_var.lerp_(var * (n_values / (n_values - 1)), self.momentum)


def share_batch_norm(network: nn.Module) -> None:
    """Put SharedBatchNorm in the place of every batch norm of the network, with its parameters and statistics."""
    for name, child in network.named_children():
        if isinstance(child, _BatchNorm):
            shared = SharedBatchNorm(child.num_features, eps=child.eps, momentum=child.momentum)
            shared.weight, shared.bias = child.weight, child.bias
            shared.running_mean, shared.running_var = child.running_mean, child.running_var
            shared.num_batches_tracked = child.num_batches_tracked
            setattr(network, name, shared)
        else:
            share_batch_norm(child)
