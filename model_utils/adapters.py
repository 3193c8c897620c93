"""Adapters of the peft library (LoRA, DoRA, IA3 …): few new weights are trained, those of the encoder stay as they are.

    encoder = load_encoder("some/folder", vocab_size)
    add_adapters(encoder, {"peft_type": "LORA", "r": 8, "lora_alpha": 16, "target_modules": ["query", "value"]})
    weights = saved_weights(model)                     # without those that a save leaves out
    encoder.save_pretrained("folder")                  # the adapters alone, with a reference to some/folder
    encoder = AutoModel.from_pretrained("folder")      # both, bit for bit, where some/folder still is

LoRA: Hu et al. 2022, https://arxiv.org/abs/2106.09685. peft's page of each method lists its options; those that put
virtual tokens before the text (prompt and prefix tuning) do not fit here. To have one plain model again:

    PeftModel.from_pretrained(AutoModel.from_pretrained("some/folder"), "folder").merge_and_unload()

Copy: with model_error.py; needs transformers, peft.
"""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from .model_error import ModelError

logger = logging.getLogger(__name__)


def add_adapters(encoder: PreTrainedModel, options: Mapping[str, Any]) -> None:
    """Freeze the encoder and add new adapters; those that it was loaded with are trained further instead.

    Args:
        encoder: of `load_encoder` or `load_language_model`.
        options: peft_type, and the options of peft's class for it; none: nothing is added.

    Raises: ModelError if peft is not there or refuses them, or if the encoder cannot be referred to.
    """
    has_some = getattr(encoder, "_hf_peft_config_loaded", False)
    if has_some and options:
        raise ModelError("peft: the saved model has adapters already, which are trained further; leave this out")
    if has_some:
        encoder.set_adapter(encoder.active_adapters())
        return
    if not options:
        return
    settle_reference(encoder)
    try:
        from peft import get_peft_config
    except ImportError as error:
        raise ModelError(f"peft: pip install peft ({error})") from error
    try:
        encoder.add_adapter(get_peft_config(dict(options)))
    except KeyError as error:
        right = "give peft_type, for example {peft_type: LORA, r: 8}"
        raise ModelError(f"peft: there is no peft_type {options.get('peft_type')!r}; {right}") from error
    except (TypeError, ValueError) as error:
        raise ModelError(f"peft: {' '.join(str(error).split())}") from error
    counts = [p.numel() for p in encoder.parameters() if p.requires_grad]
    logger.info("adapters: %d of the encoder's %d weights are trained", sum(counts), encoder.num_parameters())


def settle_reference(encoder: PreTrainedModel) -> None:
    """Only adapters are saved, with a reference that holds from any working directory.

    Raises: ModelError unless the encoder can be loaded again, and is as it was loaded.
    """
    path = encoder.name_or_path
    if not path:
        raise ModelError("peft: adapters belong to a trained model; model_name_or_path must be a folder or a hub name")
    if Path(path).is_dir():
        encoder.name_or_path = encoder.config.name_or_path = path = str(Path(path).resolve())
    trained = type(encoder.config).from_pretrained(path).get_text_config().vocab_size
    if encoder.get_input_embeddings().num_embeddings != trained:
        raise ModelError(f"peft: the tokenizer has more tokens than the {trained} that {path} knows, and adapters "
                         "would leave the new ones untrained; leave out extra_tokens")  # fmt: skip


def saved_weights(model: Any) -> dict[str, Any]:
    """The parameters and buffers that a model's save_pretrained writes: with adapters, without those they leave as they
    are.

    Args:
        model: with an `encoder` that may have adapters.
    """
    weights = model.state_dict(keep_vars=True)
    if not getattr(model.encoder, "_hf_peft_config_loaded", False):
        return weights
    # some kinds also save weights that they do not train
    every = model.encoder.state_dict(keep_vars=True)
    saved = {id(value) for value in model.encoder.get_adapter_state_dict(state_dict=every).values()}
    own = model.encoder.named_parameters("encoder", remove_duplicate=False)
    frozen = {name for name, parameter in own if not parameter.requires_grad}
    return {name: value for name, value in weights.items() if name not in frozen or id(value) in saved}
