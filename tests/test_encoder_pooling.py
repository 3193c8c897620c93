"""model_utils/pooling.py against plain loops, and what model_utils/encoder.py loads, refuses and freezes.

Letters: B texts, T sub-words, H hidden size.
"""

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModel,
    BertConfig,
    BertForMaskedLM,
    DistilBertConfig,
    GPT2Config,
    ModernBertConfig,
    RobertaConfig,
)

from model_utils.encoder import SCRATCH, ModelError, freeze, load_encoder, locate, position_limit
from model_utils.pooling import POOLING, pool

SIZES: dict[str, Any] = {
    "vocab_size": 30, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32,
}  # fmt: skip
CONFIGS: dict[str, Any] = {
    "bert": BertConfig(**SIZES, max_position_embeddings=40),
    "distilbert": DistilBertConfig(
        vocab_size=30, dim=16, n_layers=2, n_heads=2, hidden_dim=32, max_position_embeddings=40
    ),
    "roberta": RobertaConfig(**SIZES, max_position_embeddings=40, pad_token_id=1),
    "modernbert": ModernBertConfig(**SIZES, max_position_embeddings=40, pad_token_id=0),
    "gpt2": GPT2Config(vocab_size=30, n_embd=16, n_layer=2, n_head=2, n_positions=40),
}
QUERY = "encoder.layer.1.attention.self.query.weight"


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """kind -> folder with a tiny random model."""
    root = tmp_path_factory.mktemp("encoders")
    for kind, config in CONFIGS.items():
        torch.manual_seed(1)
        AutoModel.from_config(config).save_pretrained(root / kind)
    return lambda kind: str(root / kind)


def trainable(encoder: torch.nn.Module) -> set[str]:
    return {name for name, parameter in encoder.named_parameters() if parameter.requires_grad}


# ---------------------------------------------------------------------------------------------------- pooling


def loops(layers: list[torch.Tensor], mask: torch.Tensor, how: str) -> list[list[float]]:
    """The same in plain Python, text by text and number by number."""

    def mean(layer: torch.Tensor, b: int, h: int) -> float:
        values = [layer[b, t, h].item() for t in range(mask.shape[1]) if mask[b, t]]
        return sum(values) / len(values)

    def number(b: int, h: int) -> float:
        if how == "cls":
            return layers[-1][b, 0, h].item()
        if how == "mean":
            return mean(layers[-1], b, h)
        if how == "max":
            return max(layers[-1][b, t, h].item() for t in range(mask.shape[1]) if mask[b, t])
        return (mean(layers[1], b, h) + mean(layers[-1], b, h)) / 2

    batch, _, hidden = layers[-1].shape
    return [[number(b, h) for h in range(hidden)] for b in range(batch)]


@pytest.mark.parametrize("how", POOLING)
def test_pooling_equals_plain_loops(how: str) -> None:
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0], [1, 0, 0, 0, 0]])
    for shift in (0.0, -10.0):  # all values below 0: padding must not win the maximum
        layers = [torch.randn(3, 5, 4, dtype=torch.float64) + shift for _ in range(4)]
        expected = torch.tensor(loops(layers, mask, how), dtype=torch.float64)
        torch.testing.assert_close(pool(layers, mask, how), expected)


@pytest.mark.parametrize("how", POOLING)
def test_more_padding_changes_no_vector_and_gets_no_gradient(how: str) -> None:
    layers = [torch.randn(2, 4, 8) for _ in range(3)]
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]])
    longer = [torch.cat([x, torch.full((2, 3, 8), 1e4)], dim=1).requires_grad_() for x in layers]
    vector = pool(longer, torch.nn.functional.pad(mask, (0, 3)), how)
    torch.testing.assert_close(vector, pool(layers, mask, how))
    vector.sum().backward()
    for layer in longer:
        assert layer.grad is None or not layer.grad[:, 4:].any()
        assert layer.grad is None or not layer.grad[1, 2:].any()


def test_first_last_mean_of_a_single_layer_is_its_mean_and_needs_all_layers() -> None:
    layers = [torch.randn(2, 3, 4) for _ in range(2)]
    mask = torch.ones(2, 3, dtype=torch.int64)
    torch.testing.assert_close(pool(layers, mask, "first_last_mean"), layers[1].mean(1))
    with pytest.raises(ValueError, match="all layers"):
        pool(layers[-1:], mask, "first_last_mean")
    with pytest.raises(ValueError, match=r"'avg'.*cls, mean, max, first_last_mean"):
        pool(layers, mask, "avg")


# --------------------------------------------------------------------------------------------------- locating


def test_locate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert locate("bert-base-chinese") == "bert-base-chinese"
    assert locate("google-bert/bert-base-chinese") == "google-bert/bert-base-chinese"
    assert locate("scratch:tiny") == "scratch:tiny"
    assert locate(str(tmp_path)) == str(tmp_path)
    (tmp_path / "models" / "bert").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert locate("~/models/bert") == str(tmp_path / "models/bert")  # a YAML file has no shell to expand it
    assert locate("package:transformers/models") == str(Path(transformers.__file__).parent / "models")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("scratch:huge", "no size 'huge'; there are scratch:{tiny,small,base}"),
        ("scratch", "no size ''; there are scratch:"),
        ("/no/such/folder", "there is no folder /no/such/folder"),
        ("~/no/such", "there is no folder ~/no/such"),
        ("./bert", "there is no folder ./bert"),
        ("output/run/best", "there is no folder output/run/best"),
        ("package:no_such_package/model", "package 'no_such_package' is not installed; pip install no-such-package"),
        ("package:no.such.package/model", "package 'no.such.package' is not installed"),
        ("package:", "package '' is not installed"),
        ("package:transformers/no_such", "package transformers has no folder no_such"),
    ],
)
def test_locate_refuses(name: str, message: str) -> None:
    with pytest.raises(ModelError) as error:
        locate(name)
    assert str(error.value).startswith(f"model_name_or_path: {message}")


# ---------------------------------------------------------------------------------------------------- loading


@pytest.mark.parametrize("size", SCRATCH)
def test_scratch_sizes(size: str) -> None:
    vocab, positions = 50, 600
    with torch.device("meta"):  # base would need 350 MB
        encoder = load_encoder(f"scratch:{size}", vocab_size=vocab, max_length=positions)
    hidden, layers, heads = SCRATCH[size]
    embeddings = (vocab + positions + 2) * hidden + 2 * hidden
    attention, feed_forward = 4 * (hidden**2 + hidden), 2 * 4 * hidden**2 + 5 * hidden
    layer = attention + feed_forward + 2 * 2 * hidden
    pooler = hidden**2 + hidden
    assert sum(p.numel() for p in encoder.parameters()) == embeddings + layers * layer + pooler
    assert encoder.config.num_attention_heads == heads
    assert {p.dtype for p in encoder.parameters()} == {torch.float32}
    assert load_encoder("scratch:tiny", vocab_size=9, max_length=64).config.max_position_embeddings == 512


@pytest.mark.parametrize("kind", CONFIGS)
def test_a_bf16_checkpoint_is_loaded_in_fp32(kind: str, folders: Any, tmp_path: Path) -> None:
    original = AutoModel.from_pretrained(folders(kind), dtype=torch.bfloat16)
    original.save_pretrained(tmp_path)
    stored = load_file(tmp_path / "model.safetensors")
    assert {value.dtype for value in stored.values()} == {torch.bfloat16}
    encoder = load_encoder(str(tmp_path), vocab_size=30, max_length=38)
    assert {p.dtype for p in encoder.parameters()} == {torch.float32}
    for name, value in encoder.state_dict().items():
        assert torch.equal(value, stored[name].float()), name


@pytest.mark.parametrize("kind", CONFIGS)
def test_a_larger_vocabulary_adds_rows_and_changes_none(kind: str, folders: Any) -> None:
    before = AutoModel.from_pretrained(folders(kind)).get_input_embeddings().weight
    encoder = load_encoder(folders(kind), vocab_size=37, max_length=38)
    table: Any = encoder.get_input_embeddings()
    assert (table.num_embeddings, encoder.config.vocab_size) == (37, 37)
    assert torch.equal(table.weight[:30], before)
    assert table.weight[30:].isfinite().all() and table.weight[30:].abs().sum(1).all()
    assert encoder(input_ids=torch.tensor([[2, 36]])).last_hidden_state.isfinite().all()
    assert load_encoder(folders(kind), vocab_size=20, max_length=38).get_input_embeddings().num_embeddings == 30


@pytest.mark.parametrize(("kind", "limit"), [("bert", 40), ("distilbert", 40), ("roberta", 38), ("gpt2", 40)])
def test_the_longest_input_is_what_the_model_can_take(kind: str, limit: int, folders: Any) -> None:
    encoder = load_encoder(folders(kind), vocab_size=30, max_length=limit).eval()
    assert position_limit(encoder) == limit
    assert encoder(input_ids=torch.full((1, limit), 5)).last_hidden_state.shape == (1, limit, 16)
    with pytest.raises((IndexError, RuntimeError)):
        encoder(input_ids=torch.full((1, limit + 1), 5))
    with pytest.raises(ModelError, match=f"^max_length: .* has {limit} positions; {limit + 1} must not be above that"):
        load_encoder(folders(kind), vocab_size=30, max_length=limit + 1)


def test_models_without_a_limit_take_any_length(folders: Any) -> None:
    encoder = load_encoder(folders("bert"), vocab_size=30, max_length=40)
    for none in (None, -1):  # T5; XLNet
        encoder.config = SimpleNamespace(max_position_embeddings=none)
        assert position_limit(encoder) > 10**9


# A checkpoint that does not fit is refused; transformers would go on with random weights and a printed table.


def damaged(folder: str, tmp_path: Path, change: str) -> str:
    shutil.copytree(folder, tmp_path / change)
    file = tmp_path / change / "model.safetensors"
    state = load_file(file)
    if change == "missing":
        del state[QUERY]
    elif change == "two missing":
        del state[QUERY], state["embeddings.word_embeddings.weight"]
    elif change == "other size":
        state[QUERY] = torch.zeros(3, 3)
    if change in ("missing", "two missing", "other size"):
        save_file(state, file, {"format": "pt"})
    elif change == "cut off":
        file.write_bytes(file.read_bytes()[:2000])
    elif change == "no weights":
        file.unlink()
    elif change == "broken config":
        (tmp_path / change / "config.json").write_text("{")
    elif change == "no config":
        (tmp_path / change / "config.json").unlink()
    return str(tmp_path / change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("missing", f"do not fit its config.json: {QUERY}"),
        ("two missing", "do not fit its config.json: embeddings.word_embeddings.weight and 1 more"),
        ("other size", f"do not fit its config.json: {QUERY}"),
        ("cut off", "cannot be loaded: "),
        ("no weights", "cannot be loaded: Error no file named model.safetensors"),
        ("broken config", "cannot be loaded: "),
        ("no config", "cannot be loaded: "),
    ],
)
def test_damaged_checkpoints_are_refused_in_one_line(
    change: str, message: str, folders: Any, tmp_path: Path, capfd: pytest.CaptureFixture
) -> None:
    folder = damaged(folders("bert"), tmp_path, change)
    with pytest.raises(ModelError) as error:
        load_encoder(folder, vocab_size=30, max_length=40)
    assert str(error.value).startswith("model_name_or_path: ") and folder in str(error.value)
    assert message in str(error.value) and "\n" not in str(error.value)
    assert capfd.readouterr() == ("", "")


def test_a_folder_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ModelError, match=r"^model_name_or_path: output/bert is no folder, and as a name on the hub"):
        load_encoder("output/bert", vocab_size=30)


def test_a_language_model_lends_its_encoder(tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    """Its own head is left behind, and the pooler that it lacks is never used."""
    model = BertForMaskedLM(CONFIGS["bert"])
    model.save_pretrained(tmp_path)
    capfd.readouterr()
    encoder = load_encoder(str(tmp_path), vocab_size=30, max_length=40)
    assert capfd.readouterr() == ("", "")
    for name, value in model.bert.state_dict().items():
        assert torch.equal(encoder.state_dict()[name], value), name
    assert trainable(encoder) == {name for name, _ in encoder.named_parameters() if not name.startswith("pooler.")}


# --------------------------------------------------------------------------------------------------- freezing

BERT_LAYER = {
    f"{part}.{kind}"
    for part in (
        "attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense",
        "attention.output.LayerNorm", "intermediate.dense", "output.dense", "output.LayerNorm",
    )
    for kind in ("weight", "bias")
}  # fmt: skip
DISTILBERT_LAYER = {
    f"{part}.{kind}"
    for part in (
        "attention.q_lin", "attention.k_lin", "attention.v_lin", "attention.out_lin", "sa_layer_norm", "ffn.lin1",
        "ffn.lin2", "output_layer_norm",
    )
    for kind in ("weight", "bias")
}  # fmt: skip
MODERNBERT_LAYER = {"attn_norm.weight", "attn.Wqkv.weight", "attn.Wo.weight", "mlp_norm.weight", "mlp.Wi.weight",
                    "mlp.Wo.weight"}  # fmt: skip
GPT2_LAYER = {
    f"{part}.{kind}"
    for part in ("ln_1", "attn.c_attn", "attn.c_proj", "ln_2", "mlp.c_fc", "mlp.c_proj")
    for kind in ("weight", "bias")
}
LAYERS: dict[str, tuple[str, set[str], set[str]]] = {  # where the layers are, their parameters, those behind them
    "bert": ("encoder.layer", BERT_LAYER, set()),
    "distilbert": ("transformer.layer", DISTILBERT_LAYER, set()),
    "roberta": ("encoder.layer", BERT_LAYER, set()),
    "modernbert": ("layers", MODERNBERT_LAYER, {"final_norm.weight"}),
    "gpt2": ("h", GPT2_LAYER, {"ln_f.weight", "ln_f.bias"}),
}


@pytest.mark.parametrize("kind", LAYERS)
def test_exactly_these_parameters_stay_trainable(kind: str, folders: Any) -> None:
    stack, names, behind = LAYERS[kind]

    def left(layers: int) -> set[str]:
        encoder = load_encoder(folders(kind), vocab_size=30, max_length=38)
        freeze(encoder, layers)
        return trainable(encoder)

    everything = {name for name, _ in AutoModel.from_pretrained(folders(kind)).named_parameters()}
    assert left(0) == {name for name in everything if not name.startswith("pooler.")}
    assert left(1) == {f"{stack}.1.{name}" for name in names} | behind
    assert left(2) == behind
    assert left(-1) == set()
    encoder = load_encoder(folders(kind), vocab_size=30, max_length=38)
    with pytest.raises(ModelError, match=r"^freeze_layers: the encoder has 2 layers, not 3$"):
        freeze(encoder, 3)
    assert trainable(encoder) == left(0)  # a refusal changes nothing


def test_a_single_layer_is_a_stack_too_and_no_stack_is_refused() -> None:
    encoder = AutoModel.from_config(BertConfig(**SIZES | {"num_hidden_layers": 1}))
    freeze(encoder, 1)
    assert trainable(encoder) == {"pooler.dense.weight", "pooler.dense.bias"}
    encoder.encoder.layer = torch.nn.Sequential(*encoder.encoder.layer)
    with pytest.raises(ModelError, match="has 0 layers, not 1"):
        freeze(encoder, 1)


@pytest.mark.parametrize("kind", LAYERS)
def test_every_trainable_parameter_is_used(kind: str, folders: Any) -> None:
    """DDP waits for each of them."""
    encoder = load_encoder(folders(kind), vocab_size=30, max_length=38)
    hidden = encoder(input_ids=torch.tensor([[2, 5, 6, 7]])).last_hidden_state
    (hidden * torch.randn_like(hidden)).sum().backward()
    assert {name for name, p in encoder.named_parameters() if p.grad is not None} == trainable(encoder)
