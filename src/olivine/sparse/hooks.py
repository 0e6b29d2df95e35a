"""Whether a module may be replaced by what it computes."""

from __future__ import annotations

from torch import nn
from torch.nn.modules.module import _has_any_global_hook

from olivine.sparse.synchronized import SynchronizedNorm1d


def is_plain(norm: nn.BatchNorm1d) -> bool:
    """Whether it computes what PyTorch's own does, with all its parts, and nobody listens to it."""
    return (
        type(norm) in (nn.BatchNorm1d, SynchronizedNorm1d)
        and norm.affine
        and norm.track_running_stats
        and not has_hooks(norm)
    )


def has_hooks(module: nn.Module) -> bool:
    """Whether somebody listens to a module's calls, so that it has to be called."""
    own = module._forward_hooks or module._forward_pre_hooks or module._backward_hooks or module._backward_pre_hooks
    return bool(own) or bool(_has_any_global_hook())  # type: ignore[no-untyped-call]
