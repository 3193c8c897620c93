"""data_process/packing.py and word_segments.py: nothing is lost, blocks are full, words are where they should be."""

import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_process import word_segments
from data_process.errors import DataError
from data_process.packing import PAD, PIECE, SECOND, TEXT, WORD, BlockEncoder, fit, pack, word_numbers
from data_process.tokenizer import train_tokenizer
from data_process.word_segments import Lexicon, load_segmenter, word_starts

TEXTS = ["a b c", "the cat sat on the mat. " * 9, "使用语言模型来预测下一个词", "x", "playing in New York 很大"]
TOKENIZER = train_tokenizer(TEXTS * 2, 200)
CLS, SEP, PAD_ID = TOKENIZER.cls_token_id, TOKENIZER.sep_token_id, TOKENIZER.pad_token_id


def ids_of(text: str) -> list[int]:
    return TOKENIZER(text, add_special_tokens=False)["input_ids"]


def unpacked(ids: np.ndarray, flags: np.ndarray) -> list[list[int]]:
    """The pieces of all blocks, without padding."""
    found: list[list[int]] = []
    for row, own in zip(ids.tolist(), flags.tolist(), strict=True):
        for number, flag in zip(row, own, strict=True):
            if flag & PIECE:
                found.append([])
            if not flag & PAD:
                found[-1].append(number)
    return [piece for piece in found if piece]


def joined(blocks: list[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    ids, flags = zip(*blocks, strict=True)
    return np.concatenate(ids), np.concatenate(flags)


def test_documents_every_part_of_every_text_once_with_its_special_tokens() -> None:
    length = 12
    ids, flags = joined(list(pack(BlockEncoder(TOKENIZER, length)(TEXTS), length, PAD_ID)))
    assert ids.shape[1] == length and ((ids == PAD_ID) == (flags & PAD > 0)).all()
    pieces = unpacked(ids, flags)
    expected = []
    for text in TEXTS:
        own = ids_of(text)
        expected += [[CLS, *own[n : n + length - 2], SEP] for n in range(0, len(own), length - 2)]
    assert sorted(pieces) == sorted(expected)
    is_text = flags & TEXT > 0
    assert is_text.sum() == sum(len(ids_of(text)) for text in TEXTS)
    assert not is_text[np.isin(ids, [CLS, SEP, PAD_ID])].any()


def test_crossing_is_the_row_of_all_texts_cut_every_so_often() -> None:
    length = 12
    pieces = BlockEncoder(TOKENIZER, length, crossing=True)(TEXTS)
    ids, flags = joined(list(pack(pieces, length, PAD_ID, crossing=True)))
    row = [number for text in TEXTS for number in [CLS, *ids_of(text), SEP]]
    assert ids.ravel()[: len(row)].tolist() == row
    assert (flags.ravel()[len(row) :] & PAD > 0).all() and len(row) > ids.size - length
    begins = (flags & PIECE > 0).ravel()[: len(row)]
    assert begins.nonzero()[0].tolist() == [n for n, number in enumerate(row) if number == CLS or n % length == 0]


def test_causal_texts_end_once_and_have_nothing_else() -> None:
    length, text = 8, TEXTS[1]
    tokenizer = train_tokenizer(TEXTS * 2, 200)
    tokenizer.eos_token = "[SEP]"
    pieces = BlockEncoder(tokenizer, length, causal=True)([text])
    found = [number for ids, _ in pieces for number in ids.tolist()]
    assert found == [CLS, *ids_of(text), SEP] and {len(ids) for ids, _ in pieces[:-1]} == {length}
    assert len(pieces) > 2 and all(flags[0] & PIECE and not (flags[1:] & PIECE).any() for _, flags in pieces)


def test_pairs_are_cut_as_transformers_cuts_them() -> None:
    length, pair = 16, ["the cat sat on the mat", "a b c " * 9]
    [(ids, flags)] = BlockEncoder(TOKENIZER, length)([pair])
    theirs = TOKENIZER(*pair, truncation="longest_first", max_length=length)
    assert ids.tolist() == theirs["input_ids"]
    assert (flags & SECOND > 0).astype(int).tolist() == theirs["token_type_ids"]
    assert flags[0] & PIECE and (flags & PIECE > 0).sum() == 1


@settings(deadline=None)
@given(st.lists(st.integers(1, 20), max_size=60))
def test_fitting_loses_nothing_and_is_nearly_full(lengths: list[int]) -> None:
    blocks = fit(lengths, 20)
    assert sorted(number for block in blocks for number in block) == list(range(len(lengths)))
    used = sorted(sum(lengths[n] for n in block) for block in blocks)
    assert not used or used[-1] <= 20
    # first fit decreasing needs at most 11/9 of the best number and 6/9 more (Dosa 2007), best fit decreasing too
    assert len(blocks) <= 11 / 9 * -(-sum(lengths) // 20) + 6 / 9 or max(lengths) > 6


def test_memory_is_bounded_pieces_are_taken_as_needed() -> None:
    taken = 0

    def pieces():
        nonlocal taken
        for _ in range(30_000):
            taken += 1
            yield np.ones(5, np.int64), np.full(5, TEXT, np.uint8)

    next(pack(pieces(), 10, 0))
    assert taken < 10_000


# ---------------------------------------------------------------------- words


def words_of(text: str, segment: object = None) -> list[str]:
    encoding = TOKENIZER.backend_tokenizer.encode(text, add_special_tokens=False)
    found: list[str] = []
    for (first, end), begins in zip(encoding.offsets, word_starts(encoding, text, segment), strict=True):  # type: ignore[arg-type]
        found += [text[first:end]] if begins else []
        if not begins:
            found[-1] += text[first:end]
    return found


def test_words_without_a_segmenter_are_the_tokenizers() -> None:
    assert words_of("playing, 语言") == ["playing", ",", "语", "言"]


def test_chinese_words_by_jieba() -> None:
    jieba = pytest.importorskip("jieba")
    text = "使用语言模型来预测下一个词的 probability"
    found = words_of(text, load_segmenter("jieba"))
    assert found == [word for word in jieba.lcut(text) if word.strip()]
    assert max(map(len, found)) > 1


def test_a_lexicon_joins_phrases_and_wins_over_jieba(tmp_path) -> None:
    pytest.importorskip("jieba")
    (tmp_path / "words").write_text("New York\n语言模型\nYo\n", encoding="utf-8")
    both = load_segmenter("jieba", f"{tmp_path}/words")
    assert words_of("New York 用语言模型", both) == ["NewYork", "用", "语言模型"]
    assert words_of("New Yorker 用语言", load_segmenter(None, f"{tmp_path}/words"))[1] == "Yorker"


@given(st.text("ab 中文", max_size=12))
def test_the_longest_word_at_each_place(text: str) -> None:
    words = ["a", "ab", "中", "中文", "文a", "a b"]
    place, expected = 0, []
    while place < len(text):
        here = [w for w in words if text.startswith(w, place)]
        inside = [w for w in here if not (letters(text, place) or letters(text, place + len(w)))]
        word = max(inside, key=len, default="")
        expected += [(place, place + len(word))] if word else []
        place += len(word) or 1
    assert list(Lexicon(words)(text)) == expected


def letters(text: str, place: int) -> bool:
    return 0 < place < len(text) and text[place - 1] in "ab" and text[place] in "ab"


def test_part_of_a_word_at_the_edge_of_a_block_begins_one() -> None:
    """Otherwise it would belong to the word before, of another text."""
    encode = BlockEncoder(TOKENIZER, 6, crossing=True)
    for crossing in (False, True):
        encode.crossing = crossing
        _, flags = joined(list(pack(encode(["playing " * 9, "qqqqqqqq"]), 6, PAD_ID, crossing)))
        first = np.diff((flags & TEXT > 0).astype(int), axis=1, prepend=0) > 0
        assert (flags[first] & WORD > 0).all()


def test_a_written_special_token_is_no_text() -> None:
    [(ids, flags)] = BlockEncoder(TOKENIZER, 16)(["a [MASK] b"])
    place = ids.tolist().index(TOKENIZER.mask_token_id)
    assert not flags[place] & TEXT


def test_a_word_that_begins_with_an_unknown_character_is_none_of_the_word_before() -> None:
    [(ids, flags)] = BlockEncoder(TOKENIZER, 16, segment=lambda text: [(0, 1), (1, 3)])(["一Ω下"])
    assert ids.tolist()[2] == TOKENIZER.unk_token_id and not flags[2] & TEXT
    assert word_numbers(flags).tolist() == [0, 1]
    assert word_numbers(np.stack([flags, flags])).tolist() == [0, 1, 2, 3]


def test_jieba_is_asked_for_by_name(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "jieba", None)
    word_segments.jieba_tokenizer.cache_clear()
    with pytest.raises(DataError, match="pip install jieba"):
        load_segmenter("jieba")
