"""Muon for the matrices of the hidden layers, AdamW for everything else, behind one optimizer.

    optimizer = MuonAdamW(groups, hidden_matrices(encoder))

Muon orthogonalizes each matrix's update (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/). It is torch's
own, which takes two-dimensional parameters only, with learning rates on AdamW's scale ("match_rms_adamw", Liu et al.
2025, https://arxiv.org/abs/2502.16982). Embeddings, heads, biases and norms are not meant for it.

Copy: alone; needs torch.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import nn


def hidden_matrices(encoder: nn.Module) -> list[nn.Parameter]:
    """Two-dimensional weights but those of embeddings, and of output layers that are tied to one."""
    tables = {id(module.weight) for module in encoder.modules() if isinstance(module, nn.Embedding)}
    named = encoder.named_parameters()
    return [p for name, p in named if p.ndim == 2 and name.endswith("weight") and id(p) not in tables]


class MuonAdamW(torch.optim.Optimizer):
    """Both optimizers share their groups with this one, so that schedules and hooks see one optimizer."""

    def __init__(self, groups: Sequence[Mapping[str, Any]], matrices: Iterable[nn.Parameter]):
        """
        Args:
            groups: params, lr and weight_decay each; a group with parameters of both kinds becomes two.
            matrices: those for Muon.

        Raises: ValueError if none of them is in a group.
        """
        super().__init__([dict(group) for group in groups], {})
        chosen = {id(matrix) for matrix in matrices}
        of_muon = [part for group in groups if (part := cut(group, lambda p: id(p) in chosen))]
        others = [part for group in groups if (part := cut(group, lambda p: id(p) not in chosen))]
        if not of_muon:
            raise ValueError("muon: the model has no trainable matrix in a hidden layer")
        self.muon = torch.optim.Muon(of_muon, adjust_lr_fn="match_rms_adamw")
        self.parts: dict[str, torch.optim.Optimizer] = {"muon": self.muon}
        if others:
            self.parts["adamw"] = torch.optim.AdamW(others, fused=True)
        self.share_groups()

    def share_groups(self) -> None:
        self.param_groups = [group for part in self.parts.values() for group in part.param_groups]

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for part in self.parts.values():
            part.step()

    def state_dict(self) -> dict[str, Any]:
        return {name: part.state_dict() for name, part in self.parts.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        for name, part in self.parts.items():
            part.load_state_dict(state[name])
        self.share_groups()


def cut(group: Mapping[str, Any], wanted: Callable[[nn.Parameter], bool]) -> dict[str, Any] | None:
    """The group with the wanted ones of its parameters; None if there are none."""
    params = [parameter for parameter in group["params"] if wanted(parameter)]
    return {**group, "params": params} if params else None
