"""New words for a trained tokenizer: one id each, behind the old ones, and texts without them stay as they were.

    new, ids = add_words(tokenizer, ["melatonin", "牙刷"])          # ids == {"melatonin": 30522, "牙刷": 30523}
    old_pieces = pieces_of(tokenizer, ["melatonin"])            # what each was before

`tokenizer.add_tokens(words)` alone finds "cat" inside "category". What is right depends on the tokenizer's model:

- WordPiece (BERT): words become added tokens that stand between other characters than letters and digits
  (single_word) in the normalised text. In the model's own vocabulary they would also begin longer words.
- BPE whose pre-tokenizer gives words (GPT-2, Llama 3, lossless_tokenizer.py): the word with its space becomes an entry
  of the vocabulary, and ignore_merges takes whole words from there first. Merges would also apply inside other words;
  an added token would lose or separate the space.
- Unigram (T5, XLM-R): an entry whose score is that of its pieces and a trifle more, so it replaces exactly them, also
  where they begin a longer word. An added token would put a space behind itself.
- Chinese words, which have no borders to look at: entries for Unigram, for the others added tokens, found anywhere in
  the text, from the left, the longest first.

Copy: with domain_words.py, errors.py, tokenizer.py, word_segments.py; needs transformers, numpy, tokenizers; can use
jieba.
"""

import copy
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer
from transformers import AutoTokenizer

from .domain_words import is_chinese
from .errors import DataError
from .tokenizer import marks_spaces

SPACE = "▁"
TRIFLE, LONGER = 1e-6, 1.1  # of ways to write a text that score the same, the one with the longest new words wins


def add_words(tokenizer: Any, words: Sequence[str]) -> tuple[Any, dict[str, int]]:
    """A copy that knows the words, and the id of each in the order of the ids.

    Args:
        tokenizer: a fast one of transformers.
        words: as `normalized` writes them, each once, and of two pieces at least.

    Raises: DataError for a word that cannot be added, or a tokenizer of another kind.
    """
    kind, new = kind_of(tokenizer), copy.deepcopy(tokenizer)
    for word, pieces in zip(words, pieces_of(tokenizer, words), strict=True):
        if len(pieces) < 2:
            raise DataError("arguments", f"{word!r} cannot become a sub-word of this tokenizer", "words")

    def is_entry(word: str) -> bool:
        return kind == "Unigram" or (kind == "BPE" and not is_chinese(word))

    entries, tokens = [w for w in words if is_entry(w)], [w for w in words if not is_entry(w)]
    first = max(tokenizer.get_vocab().values()) + 1
    if entries:
        add_entries(new.backend_tokenizer, {entry_of(tokenizer, word): first + n for n, word in enumerate(entries)})
    # Chinese: as it stands in the text, since BERT's normalizer puts spaces around each character
    new.add_tokens([AddedToken(w, single_word=not is_chinese(w), normalized=not is_chinese(w)) for w in tokens])
    spelled = [entry_of(tokenizer, word) for word in entries] + tokens
    ids = {word: first + number for number, word in enumerate([*entries, *tokens])}
    expected = tokenizer.get_vocab() | dict(zip(spelled, ids.values(), strict=True))
    if new.get_vocab() != expected:
        raise DataError("arguments", "the ids of this tokenizer have gaps, so none can follow", "model_name_or_path")
    return new, ids


def kind_of(tokenizer: Any) -> str:
    kind = type(tokenizer.backend_tokenizer.model).__name__
    words = tokenizer.backend_tokenizer.pre_tokenizer is not None
    if kind not in ("WordPiece", "BPE", "Unigram") or not words:
        what = kind if words else f"{kind} without a pre-tokenizer"
        message = f"its tokenizer is {what}; words can be added to WordPiece, BPE and Unigram with one"
        raise DataError("arguments", message, "model_name_or_path")
    return kind


def normalized(tokenizer: Any, word: str) -> str:
    """A word as the tokenizer sees it: in lower case for some, without the spaces that mark its beginning.

    Several words, which cannot be added as one, stay as they are.
    """
    normalizer = tokenizer.backend_tokenizer.normalizer
    if len(word.split()) > 1:
        return word
    return "".join((normalizer.normalize_str(word) if normalizer else word).replace(SPACE, " ").split())


def in_text(tokenizer: Any, word: str) -> str:
    """The word with the space that belongs to it; there is none in Chinese."""
    return f" {word}" if marks_spaces(tokenizer.backend_tokenizer) and not is_chinese(word) else word


def entry_of(tokenizer: Any, word: str) -> str:
    """The word in the letters of the model's vocabulary, "Ġword"; "" if there it cannot be had as one."""
    kind, backend = kind_of(tokenizer), tokenizer.backend_tokenizer
    if len(word.split()) != 1 or word != normalized(tokenizer, word):
        return ""
    if kind == "WordPiece" or (kind == "BPE" and is_chinese(word)):
        return word
    # Unigram finds an entry in whatever it gets; BPE must get the word alone, also out of a text
    text, expected = (f"{word} {word}", 2) if kind == "BPE" else (in_text(tokenizer, word), 1)
    text = backend.normalizer.normalize_str(text) if backend.normalizer else text
    parts = [part for part, _ in backend.pre_tokenizer.pre_tokenize_str(text)]
    if len(parts) != expected:
        return ""
    return parts[-1].removeprefix(SPACE) if is_chinese(word) else parts[-1]


def pieces_of(tokenizer: Any, words: Sequence[str]) -> list[list[int]]:
    """The sub-words that each word is now, in a text; none for a word that cannot be added or is an entry already."""
    backend, known = tokenizer.backend_tokenizer, tokenizer.get_vocab()
    entries = [entry_of(tokenizer, word) for word in words]
    if kind_of(tokenizer) == "Unigram":  # alone, a Chinese word would get a space; an unknown piece has no score
        pieces = [[piece.id for piece in backend.model.tokenize(entry)] if entry else [] for entry in entries]
        pieces = [[] if tokenizer.unk_token_id in ids else ids for ids in pieces]
    else:
        texts = [in_text(tokenizer, word) for word in words]
        pieces = tokenizer(texts, add_special_tokens=False)["input_ids"] if texts else []
    return [ids if entry and entry not in known else [] for ids, entry in zip(pieces, entries, strict=True)]


def add_entries(backend: Tokenizer, ids: dict[str, int]) -> None:
    """Put entries into the vocabulary of a BPE or Unigram model."""
    state = json.loads(backend.to_str())
    model = state["model"]
    # Tokens that were added behind the vocabulary become part of it, else loading numbers them anew.
    added = sorted((token["id"], token["content"]) for token in state["added_tokens"])
    if model["type"] == "BPE":
        model["vocab"] |= {content: number for number, content in added} | ids
        model["ignore_merges"] = True
    else:
        model["vocab"] += [[content, 0.0] for number, content in added if number >= len(model["vocab"])]
        scores = [score for _, score in model["vocab"]]
        for entry in ids:
            pieces = [piece.id for piece in backend.model.tokenize(entry)]
            bonus = TRIFLE * (len(pieces) - 1) ** LONGER
            model["vocab"].append([entry, sum(scores[piece] for piece in pieces) + bonus])
    backend.model = Tokenizer.from_str(json.dumps(state)).model


def save(tokenizer: Any, folder: Path, texts: Sequence[str]) -> None:
    """Write the tokenizer's files beside the model's, and read them again.

    Raises: DataError if AutoTokenizer then encodes one of the texts in another way.
    """
    tokenizer.save_pretrained(folder)
    if kind_of(tokenizer) == "BPE":
        # GPT2Tokenizer and its like make a new BPE of vocabulary and merges, and leave ignore_merges behind
        file = folder / "tokenizer_config.json"
        config = json.loads(file.read_text(encoding="utf-8"))
        config |= {"tokenizer_class": "PreTrainedTokenizerFast", "model_input_names": tokenizer.model_input_names}
        file.write_text(json.dumps(config, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    loaded = AutoTokenizer.from_pretrained(folder)
    found, expected = (some([*texts], verbose=False)["input_ids"] for some in (loaded, tokenizer))
    for text, a, b in zip(texts, found, expected, strict=True):
        if a != b:
            message = f"its tokenizer is another one when saved and loaded: {text[:60]!r}"
            raise DataError("arguments", message, "model_name_or_path")
