"""Texts -> vectors: any encoder, a pooling, and a whitening if there is one.

    embedder = Embedder(Settings("bert-base-chinese", "mean", max_length=128), device="auto")
    for vectors in embedder.embed(texts, total=len(texts)): ...      # (C, H) each, in the order of the texts
    embedder.save("folder"); embedder = Embedder.load("folder")
"""

import inspect
import logging
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from data_process.errors import DataError
from data_process.readers import read_records
from data_process.record_checks import check_text
from data_process.tokenizer import load_tokenizer
from model_utils.encoder import load_encoder, locate
from model_utils.pooling import pool
from model_utils.whitening import Whitening
from trainer.checkpoint import read_json, write_json
from trainer.device import pick_device
from trainer.progress import progress_bar

from .command_line import require

logger = logging.getLogger(__name__)
SETTINGS, WHITENING = "embedding.json", "whitening.safetensors"
BATCHES_OF_A_CHUNK = 32


@dataclass(frozen=True)
class Settings:
    """What a vector depends on besides its text."""

    model_name_or_path: str
    pooling: str
    max_length: int
    """sub-words, special tokens included"""


class Embedder:
    """C texts of a chunk, B of a batch, T sub-words, H hidden size (with a whitening, its number of components)."""

    def __init__(
        self, settings: Settings, whitening: Whitening | None = None, device: str = "auto", batch_size: int = 64
    ):
        """Raises: ModelError, DataError or DeviceError if something cannot be had; CommandError for wrong numbers."""
        require(settings.max_length >= 3, "max_length", "must leave room for two special tokens: at least 3")
        require(batch_size >= 1, "batch_size", "must be above 0")
        self.device, self.batch_size = pick_device(device), batch_size
        path = locate(settings.model_name_or_path)
        self.tokenizer = load_tokenizer(path)
        encoder: Any = load_encoder(path, len(self.tokenizer), settings.max_length)
        self.encoder = encoder.to(self.device).eval()
        self.settings, self.whitening = settings, whitening
        self.hidden_size: int = encoder.config.hidden_size

    @classmethod
    def load(cls, folder: str, option: str, device: str = "auto", batch_size: int = 64) -> "Embedder":
        """What `save` wrote; `option` is the argument that named the folder."""
        path = Path(folder)
        require((path / SETTINGS).is_file(), option, f"{folder} holds no {SETTINGS}; give a folder that was saved here")
        whitening = Whitening.load(path / WHITENING) if (path / WHITENING).exists() else None
        return cls(Settings(**read_json(path / SETTINGS)), whitening, device, batch_size)

    def save(self, folder: Path) -> None:
        """Settings and whitening; the model stays where it is."""
        model = Path(self.settings.model_name_or_path).expanduser()
        where = {"model_name_or_path": str(model.resolve())} if model.is_dir() else {}
        write_json(folder / SETTINGS, asdict(self.settings) | where)
        if self.whitening is not None:
            self.whitening.save(folder / WHITENING)

    def embed(self, texts: Iterable[str], total: int) -> Iterator[torch.Tensor]:
        """Yield (C, H) on the device for every C texts, in their order; `total` texts are announced.

        Within a chunk texts of like length share a batch, so that little is padded.
        """
        num_cut, remaining = 0, iter(texts)
        with progress_bar((), "[EMBED]", total) as bar:
            while chunk := list(islice(remaining, BATCHES_OF_A_CHUNK * self.batch_size)):
                order = sorted(range(len(chunk)), key=lambda number: len(chunk[number]))
                vectors = []
                for first in range(0, len(order), self.batch_size):
                    batch = self.tokenize([chunk[number] for number in order[first : first + self.batch_size]])
                    vectors.append(self.encode(batch))
                    num_cut += sum(bool(encoding.overflowing) for encoding in batch.encodings)
                    bar.update(len(batch.encodings))
                yield torch.cat(vectors)[torch.tensor(order, device=self.device).argsort()]
        if num_cut:
            logger.warning("%d of %d texts were cut at max_length=%d", num_cut, total, self.settings.max_length)

    def embed_file(self, source: str, column: str, total: int) -> Iterator[torch.Tensor]:
        """The same for the texts of a file, which is read along."""
        return self.embed((text for text, _ in read_texts(source, column)), total)

    def tokenize(self, texts: list[str]) -> Any:
        return self.tokenizer(texts, truncation=True, max_length=self.settings.max_length, padding=True,
                              padding_side="right", return_attention_mask=True, return_tensors="pt")  # fmt: skip

    @torch.no_grad()
    def encode(self, batch: Any) -> torch.Tensor:
        """(B, T) sub-words -> (B, H)."""
        accepted = inspect.signature(self.encoder.forward).parameters
        inputs = {name: value.to(self.device) for name, value in batch.items() if name in accepted}
        all_layers = self.settings.pooling == "first_last_mean"
        output = self.encoder(**inputs, output_hidden_states=all_layers, return_dict=True)
        hidden_states = (*output.hidden_states[:-1], output.last_hidden_state) if all_layers else (output[0],)
        vectors = pool(hidden_states, inputs["attention_mask"], self.settings.pooling)  # (B, H)
        return vectors if self.whitening is None else self.whitening.transform(vectors)


def read_texts(source: str, column: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """(text, record) of every record of a file. Raises DataError for one without a text."""
    for where, record in read_records(source):
        check_text(where, record, column)
        if not isinstance(record[column], str):
            raise DataError(where, "must be a string, found a list of words", column)
        yield record[column], record


def count_texts(source: str, column: str) -> int:
    """How many there are. So all of a file is checked before a model is loaded or anything is written."""
    return sum(1 for _ in read_texts(source, column))
