"""Learning to Prompt: the encoder stays as it is; learnt prompts from a pool, chosen for each text, stand before it.

Wang, Zhang, Lee, Zhang, Sun, Ren, Su, Perot, Dy, Pfister: Learning to Prompt for Continual Learning, CVPR 2022,
https://arxiv.org/abs/2112.08654. Every prompt has a key. The query of a text is the encoder's output at [CLS] for the
text alone; the N prompts whose keys have the largest cosine with it are put before the embedded text. Trained are the
pool and the heads, with loss + strength * mean(1 - cos(query, key)) over texts and chosen keys.

    model.prompt_pool = PromptPool(model.encoder.requires_grad_(False), size=10, length=5, chosen=5)
    model.prompt_pool.attach(model.encoder)                                               # 1. familiar calls
    loss = model(batch).loss + 0.5 * model.prompt_pool.distance()

    approach.begin_task(model, task)                                                      # 2. and train as always

    python continual.py --config configs/continual/jd21_5.yaml --approaches '[{name: prompt_pool, prompts: 20}]'  # 3.

Exact where copies usually are not: the query is computed in eval mode, so that a text always has the same; keys are
compared in fp32 also under autocast; the text keeps its positions, and what the encoder returns is of the text alone,
so that pooling, words and masks of the heads fit. All prompts have the position of the first sub-word: they are a
set, whose order says nothing. They begin as embeddings of tokens drawn from the vocabulary, see Lester, Al-Rfou,
Constant 2021, https://arxiv.org/abs/2104.08691. No weight decay where it goes by names that end in "weight".

Unlike the paper: its classifier looks at the mean over the prompts' places, the heads here at the text, as they always
do; its loss adds up the distances of the N keys, which is N times this mean; its table of how often each prompt was
chosen, by which tasks come to choose others, is left out. Keys move through the distance only, and with Adam hardly by
its size. Where an encoder's [CLS] differs little from text to text, many texts choose the same prompts.
Cost: one more forward pass without gradients for each batch, also in evaluation; N * length more places per text, but
none of the encoder's positions. With texts of 32 sub-words a step takes 1.6 times that of training the whole encoder.
For encoders of transformers that take inputs_embeds and position_ids, as BERT, RoBERTa, ELECTRA, DistilBERT do, on
texts padded at the end. Conflicts: unpad.

Copy: alone; needs torch.
"""

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def closest(query: Tensor, keys: Tensor, number: int) -> Tensor:
    """Numbers of the keys with the largest cosine, the closest first: (R, H), (M, H) -> (R, N)."""
    return F.cosine_similarity(query[:, None], keys, dim=-1).topk(number, dim=-1).indices


class PromptPool(nn.Module):
    """R texts, T sub-words, H hidden size, E width of embeddings; M prompts of L places, N of them for each text."""

    def __init__(self, encoder: Any, size: int = 10, length: int = 5, chosen: int = 5, seed: int = 0):
        """seed: of the first prompts and keys. Raises ValueError for an encoder that it cannot stand before."""
        super().__init__()
        if getattr(encoder.config, "_attn_implementation", None) == "unpadded":
            raise ValueError("prompt_pool: not for an encoder without padding; leave out unpad")
        if missing := {"inputs_embeds", "position_ids"} - set(inspect.signature(encoder.forward).parameters):
            raise ValueError(f"prompt_pool: {type(encoder).__name__} takes no {min(missing)}, which prompts need")
        table, generator = encoder.get_input_embeddings().weight.detach(), torch.Generator().manual_seed(seed)
        tokens = torch.randint(len(table), (size, length), generator=generator)
        keys = 2 * torch.rand(size, encoder.config.hidden_size, generator=generator) - 1
        self.prompts = nn.Parameter(table[tokens.to(table.device)])  # (M, L, E)
        self.keys = nn.Parameter(keys.to(table.device))  # (M, H)
        self.number = chosen
        self.places = chosen * length
        self.first_position = first_position(encoder)
        self.query = self.chosen = torch.empty(0)  # (R, H), (R, N) of the last forward pass

    def attach(self, encoder: Any) -> None:
        """From now on in all its forward passes."""
        encoder.register_forward_pre_hook(self.put_before, with_kwargs=True)
        encoder.register_forward_hook(self.cut_off)

    def put_before(self, encoder: Any, args: tuple[Any, ...], inputs: dict[str, Any]) -> Any:
        self.query = self.query_of(encoder, args, inputs)
        self.chosen = closest(self.query, self.keys.detach(), self.number)
        ids = inputs["input_ids"]
        text = encoder.get_input_embeddings()(ids)  # (R, T, E)
        prompts = self.prompts[self.chosen].flatten(1, 2)  # (R, N * L, E)
        places = torch.arange(-self.places, ids.shape[1], device=ids.device).clamp(min=0)
        given = {name: value for name, value in inputs.items() if name != "input_ids"}
        for name, value in (("attention_mask", 1), ("token_type_ids", 0)):
            if given.get(name) is not None:
                given[name] = F.pad(given[name], (self.places, 0), value=value)
        embedded = torch.cat([prompts.to(text.dtype), text], 1)
        return args, given | {"inputs_embeds": embedded, "position_ids": (places + self.first_position)[None]}

    @torch.no_grad()
    def query_of(self, encoder: Any, args: tuple[Any, ...], inputs: dict[str, Any]) -> Tensor:
        """(R, H), of the plain text: `forward` itself knows no hooks."""
        was_training = encoder.training
        encoder.eval()
        try:
            return encoder.forward(*args, **inputs).last_hidden_state[:, 0].float()
        finally:
            encoder.train(was_training)

    def cut_off(self, encoder: Any, args: tuple[Any, ...], output: Any) -> Any:
        """Of the text alone is what the encoder returns."""
        output.last_hidden_state = output.last_hidden_state[:, self.places :]
        if output.get("hidden_states") is not None:
            output.hidden_states = tuple(hidden[:, self.places :] for hidden in output.hidden_states)
        output.pooler_output = None  # of the first prompt
        return output

    def distance(self) -> Tensor:
        """mean(1 - cos(query, key)) over the texts of the last forward pass and the keys chosen there."""
        return (1 - F.cosine_similarity(self.query[:, None], self.keys[self.chosen], dim=-1)).mean()


def first_position(encoder: nn.Module) -> int:
    """RoBERTa's kind counts positions from behind the one of padding."""
    tables = [module for name, module in encoder.named_modules() if name.endswith("position_embeddings")]
    return max((1 + t.padding_idx for t in tables if getattr(t, "padding_idx", None) is not None), default=0)


class Approach:
    """A pool beside the heads, as `model.prompt_pool`; which task it is makes no difference."""

    NEEDS_PADDING = True

    def __init__(self, prompts: int = 10, length: int = 5, chosen: int = 5, strength: float = 0.5, seed: int = 0):
        """
        Args:
            prompts: M, how many there are in the pool.
            length: L, places that one takes.
            chosen: N, how many stand before a text.
            strength: of the distance between queries and chosen keys; 0 = the keys stay as they were drawn.
            seed: of the first prompts and keys.

        Raises: ValueError.
        """
        if not (prompts >= chosen >= 1 and length >= 1):
            found = f"found length {length}, chosen {chosen}, prompts {prompts}"
            raise ValueError(f"prompt_pool: length must be 1 or more, chosen between 1 and prompts, {found}")
        if strength < 0:
            raise ValueError(f"prompt_pool: strength must not be negative, found {strength}")
        self.sizes = (prompts, length, chosen, seed)
        self.strength = strength
        self.pool: PromptPool | None = None
        self.loaded: Mapping[str, Any] = {}

    def begin_task(self, model: Any, task: Any) -> None:
        model.encoder.requires_grad_(False)
        if self.pool is None:
            self.pool = model.prompt_pool = PromptPool(model.encoder, *self.sizes)
            self.pool.attach(model.encoder)
            self.load_state_dict(self.loaded)

    def extra_loss(self, model: Any, batch: Mapping[str, Any], output: Any) -> Tensor:
        assert self.pool is not None
        return self.strength * self.pool.distance()

    def state_dict(self) -> dict[str, Any]:
        return {} if self.pool is None else {"pool": self.pool.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Into the parameters that the optimizer has, at the latest in `begin_task`."""
        self.loaded = state
        if state and self.pool is not None:
            self.pool.load_state_dict(state["pool"])


if __name__ == "__main__":
    torch.manual_seed(0)
    query, keys = torch.randn(3, 4), torch.randn(6, 4)
    cosines = [[float(q @ k / q.norm() / k.norm()) for k in keys] for q in query]
    brute_force = [sorted(range(6), key=lambda k: -row[k])[:2] for row in cosines]
    assert closest(query, keys, 2).tolist() == brute_force
