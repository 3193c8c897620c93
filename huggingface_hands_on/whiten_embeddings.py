r"""BERT-whitening of any encoder's sentence vectors: learn it from a corpus, then embed texts with it.

    python -m huggingface_hands_on.whiten_embeddings fit --model bert-base-chinese --corpus data/corpus.jsonl \
        --dim 256 --output_dir output/whitening
    python -m huggingface_hands_on.whiten_embeddings apply --whitening output/whitening --corpus data/new.jsonl \
        --output_dir output/vectors

No labels are needed. See model_utils/whitening.py for the paper, and semantic_search.py beside this for a use.
"""

import sys
from pathlib import Path

from .command_line import Pooling, require, require_new, run


def fit(
    model_name_or_path: str,
    corpus: str,
    output_dir: str,
    text_column: str = "text",
    pooling: Pooling = "first_last_mean",
    dim: int = 256,
    max_length: int = 128,
    batch_size: int = 64,
    device: str = "auto",
) -> None:
    """Learn the whitening of a corpus, which need not fit in memory.

    Args:
        model_name_or_path: encoder: a hub name, a local folder, or package:NAME/FOLDER; --model for short
        corpus: .jsonl .json .csv .tsv .txt .parquet, a folder of Dataset.save_to_disk, or hub:NAME
        output_dir: a new folder for whitening.safetensors and embedding.json
        text_column: column with the text, a string; a .txt file has one "text" per line
        pooling: how hidden states become one vector
        dim: components kept, those with the largest variances; 0 = all that have a variance
        max_length: longest input in sub-words, special tokens included; longer ones are cut
        batch_size: texts that are encoded at once
        device: auto, cpu, cuda, cuda:1, mps or xpu
    """
    from model_utils.whitening import Whitening
    from trainer.checkpoint import write_folder

    from .embedding import Embedder, Settings, count_texts

    require_new(output_dir)
    total = count_texts(corpus, text_column)
    embedder = Embedder(Settings(model_name_or_path, pooling, max_length), device=device, batch_size=batch_size)
    most = min(embedder.hidden_size, total - 1)
    right = f"{total} vectors of {embedder.hidden_size} numbers have at most {most} components; 0 = all of them"
    require(0 <= dim <= most, "dim", right)
    embedder.whitening = Whitening.fit(embedder.embed_file(corpus, text_column, total), dim or None)
    write_folder(output_dir, embedder.save, keep_previous=False)
    hidden, kept = embedder.whitening.matrix.shape
    print(f"{output_dir}: {kept} of {hidden} components, from {total} texts")


def apply(
    whitening: str,
    corpus: str,
    output_dir: str,
    text_column: str = "text",
    batch_size: int = 64,
    device: str = "auto",
) -> None:
    """Embed texts and whiten their vectors, with the model, pooling and length that `fit` had.

    Args:
        whitening: folder that `fit` wrote
        corpus: .jsonl .json .csv .tsv .txt .parquet, a folder of Dataset.save_to_disk, or hub:NAME
        output_dir: a new folder for vectors.safetensors, which holds "vectors" (texts, components) in float32
        text_column: column with the text, a string; a .txt file has one "text" per line
        batch_size: texts that are encoded at once
        device: auto, cpu, cuda, cuda:1, mps or xpu
    """
    import torch
    from safetensors.torch import save_file

    from trainer.checkpoint import write_folder

    from .embedding import Embedder, count_texts

    require_new(output_dir)
    total = count_texts(corpus, text_column)
    embedder = Embedder.load(whitening, "whitening", device, batch_size)
    vectors = torch.cat([part.cpu() for part in embedder.embed_file(corpus, text_column, total)])

    def write(folder: Path) -> None:
        save_file({"vectors": vectors}, folder / "vectors.safetensors")

    write_folder(output_dir, write, keep_previous=False)
    print(f"{output_dir}: {vectors.shape[0]} vectors of {vectors.shape[1]} numbers")


def main(argv: list[str] | None = None) -> int:
    return run("huggingface_hands_on.whiten_embeddings", [fit, apply], argv)


if __name__ == "__main__":
    sys.exit(main())
