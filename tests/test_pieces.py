"""model_utils/pieces.py: texts packed into one row give what each of them gives alone."""

from typing import Any

import pytest
import torch
from transformers import (
    AutoModel,
    BertConfig,
    DebertaV2Config,
    DistilBertConfig,
    ElectraConfig,
    GPT2Config,
    LlamaConfig,
    ModernBertConfig,
    RobertaConfig,
)

from model_utils.pieces import Isolation, positions

SIZES: dict[str, Any] = {
    "vocab_size": 60, "hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 32,
    "max_position_embeddings": 70, "pad_token_id": 0,
}  # fmt: skip
ENDS = {"cls_token_id": 1, "sep_token_id": 2, "bos_token_id": 1, "eos_token_id": 2}
CONFIGS = {
    "bert": BertConfig(**SIZES),
    "roberta": RobertaConfig(**SIZES | {"pad_token_id": 1}),
    "distilbert": DistilBertConfig(vocab_size=60, dim=16, n_layers=2, n_heads=2, hidden_dim=32),
    "modernbert": ModernBertConfig(**SIZES, **ENDS, local_attention=8),
    "electra": ElectraConfig(**SIZES, embedding_size=16),
    "gpt2": GPT2Config(vocab_size=60, n_embd=16, n_layer=2, n_head=2, n_positions=70),
    "llama": LlamaConfig(**SIZES),
}
CAUSAL = ("gpt2", "llama")
PIECES = torch.tensor([[0] * 11 + [1] * 30 + [2] * 19, [0] * 40 + [1] * 1 + [2] * 19])


def encoder(kind: str, attention: str = "sdpa") -> Any:
    torch.manual_seed(0)
    return AutoModel.from_config(CONFIGS[kind], dtype=torch.float32, attn_implementation=attention).eval()


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("kind", CONFIGS)
def test_each_text_is_as_it_is_alone(kind: str, attention: str) -> None:
    model = encoder(kind, attention)
    isolate = Isolation(model, kind in CAUSAL)
    ids = torch.randint(5, 60, PIECES.shape, generator=torch.Generator().manual_seed(0))
    found = model(input_ids=ids, **isolate(PIECES)).last_hidden_state
    for row in range(2):
        for number in range(3):
            own = PIECES[row] == number
            alone = model(input_ids=ids[row : row + 1, own]).last_hidden_state[0]
            torch.testing.assert_close(found[row, own], alone, rtol=1e-4, atol=1e-5)
    assert isolate.works(model, 60)


def test_without_isolation_texts_see_each_other() -> None:
    """transformers says nothing when positions begin anew and attention does not."""
    model = encoder("bert")
    ids = torch.randint(5, 60, (1, 60), generator=torch.Generator().manual_seed(0))
    leaking = Isolation(model)
    leaking.mask = lambda pieces: torch.ones_like(pieces)  # type: ignore[method-assign]
    assert not leaking.works(model, 60)
    changed = ids.clone()
    changed[0, 50] = 7  # in the third text
    first = [model(input_ids=x, **leaking(PIECES[:1])).last_hidden_state[0, :11] for x in (ids, changed)]
    assert (first[0] - first[1]).abs().max() > 1e-4


def test_an_architecture_that_cannot_is_found_out() -> None:
    config = DebertaV2Config(**SIZES, relative_attention=True, pos_att_type=["p2c"])
    model = AutoModel.from_config(config, dtype=torch.float32).train()
    assert not Isolation(model).works(model, 60)
    assert model.training


def test_positions_begin_anew() -> None:
    pieces = torch.tensor([[0, 0, 1, 1, 1, 4], [3, 3, 3, 3, 3, 3]])
    assert positions(pieces).tolist() == [[0, 1, 0, 1, 2, 0], [0, 1, 2, 3, 4, 5]]
