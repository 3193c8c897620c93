"""Re-initialization: fine-tune from random weights in the top layers of a pretrained encoder.

Zhang, Wu, Katiyar, Weinberger, Artzi: Revisiting Few-sample BERT Fine-tuning, ICLR 2021,
https://arxiv.org/abs/2006.05987: the pooler and the top layers are too much of the pretraining task.

Three ways to use it:

    reinit_layers(model.encoder, 2)                     # 1. the two top layers, in place, before the optimizer is made

    names = reinit_layers(model.encoder, 2, std=0.02)   # 2. which parameters were drawn anew

    sh run.sh --use_reinit --reinit_layers 2            # 3. by flag

Exact: matrices are drawn from a normal distribution with the standard deviation of the encoder's own configuration
(`initializer_range`), biases 0, the scales of norms 1; a pooler is drawn anew too.
Cost: none. It helps only where weights were pretrained; a resumed run keeps its trained weights. Conflicts: none known.

Copy: alone; needs torch.
"""

import torch
from torch import nn


class NoLayers(ValueError):
    """There is nothing to draw anew: a wrong setting, not a bug."""

    exit_code = 2


@torch.no_grad()
def reinit_layers(encoder: nn.Module, layers: int = 1, std: float | None = None) -> list[str]:
    """Draw the top `layers` of the encoder's longest nn.ModuleList, and a pooler, anew.

    Args:
        encoder: with its layers in an nn.ModuleList.
        std: of the matrices; None: the configuration's initializer_range, or 0.02.

    Returns: names of the parameters. Raises: ValueError if there are not so many layers.
    """
    lists = {name: module for name, module in encoder.named_modules() if isinstance(module, nn.ModuleList)}
    name = max(lists, key=lambda name: len(lists[name]), default="")
    if not 0 <= layers <= len(lists.get(name, ())):
        raise NoLayers(f"reinit: the encoder has {len(lists.get(name, ()))} layers, not {layers}")
    std = std if std is not None else getattr(getattr(encoder, "config", None), "initializer_range", 0.02)
    chosen = {f"{name}.{number}": lists[name][number] for number in range(len(lists[name]) - layers, len(lists[name]))}
    pooler = getattr(encoder, "pooler", None)
    found = []
    for place, top in [*chosen.items(), *([("pooler", pooler)] if isinstance(pooler, nn.Module) else [])]:
        for part, parameter in top.named_parameters():
            found.append(f"{place}.{part}")
            if parameter.ndim > 1:
                parameter.normal_(0.0, std)
            else:
                parameter.fill_(1.0 if part.endswith("weight") else 0.0)
    return found


if __name__ == "__main__":
    layers = nn.ModuleList(nn.Sequential(nn.Linear(99, 99), nn.LayerNorm(99)) for _ in "abc")
    encoder = nn.ModuleDict({"layer": layers})
    before = [parameter.clone() for parameter in encoder.parameters()]
    assert reinit_layers(encoder, 1, std=3.0) == [f"layer.2.{i}.{part}" for i in (0, 1) for part in ("weight", "bias")]
    same = [torch.equal(old, new) for old, new in zip(before, encoder.parameters(), strict=True)]
    assert same == [True] * 8 + [False, False, True, True]
    assert abs([*encoder.parameters()][8].std().item() - 3) < 0.1
