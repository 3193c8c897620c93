"""model_utils/scores/texts.py: equal to sacrebleu and rouge-score called by hand, and to figures counted by hand."""

import itertools
import math
import random
import subprocess
import sys
from collections import Counter
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import pytest

from model_utils.scores.texts import chinese_tokens, score_texts, signatures

TEXTS = Path(__file__).parents[1] / "model_utils" / "scores" / "texts.py"


needs_libraries = pytest.mark.skipif(
    find_spec("sacrebleu") is None or find_spec("rouge_score") is None, reason="pip install sacrebleu rouge-score"
)


def corpus(alphabet, gap, size=40):
    """Random references of 1 to 9 words, and predictions that are near most of them."""
    chance = random.Random(1)
    predictions, references = [], []
    for _ in range(size):
        words = chance.choices(alphabet, k=chance.randint(1, 9))
        near = [word for word in words if chance.random() < 0.8] + chance.choices(alphabet, k=chance.randint(0, 2))
        references.append(gap.join(words))
        predictions.append(gap.join(near) if chance.random() < 0.7 else references[-1])
    return predictions, references


ENGLISH = corpus(["the", "The", "cat", "sat,", "on", "mats.", "it's", "3,000", "café"], " ")
CHINESE = corpus([*"我爱北京大学的人。，", "NLP ", "３.5 "], "")


def brute_force_rouge(predicted, gold, name):
    """F-measure with common subsequences and n-grams found by listing them all."""
    if name == "rougeL":
        size = range(1, len(gold) + 1)
        found = {some for n in range(1, len(predicted) + 1) for some in itertools.combinations(predicted, n)}
        common = max((n for n in size for some in itertools.combinations(gold, n) if some in found), default=0)
        totals = len(predicted), len(gold)
    else:
        n = int(name[-1])
        grams = [Counter(tuple(words[i : i + n]) for i in range(len(words) - n + 1)) for words in (predicted, gold)]
        common, totals = (grams[0] & grams[1]).total(), (grams[0].total(), grams[1].total())
    if common == 0:
        return 0.0
    precision, recall = common / totals[0], common / totals[1]
    return 2 * precision * recall / (precision + recall)


def english_words(text):
    return "".join(c if c in "abcdefghijklmnopqrstuvwxyz0123456789" else " " for c in text.lower()).split()


def chinese_words(text):
    return "".join(f" {c} " if "一" <= c <= "龥" else " " if c in "。，." else c for c in text.lower()).split()


@needs_libraries
@pytest.mark.parametrize(("language", "texts", "tokenizer", "words"), [
    ("en", ENGLISH, "13a", english_words), ("zh", CHINESE, "zh", chinese_words),
])  # fmt: skip
def test_equal_to_the_libraries_and_to_brute_force(language, texts, tokenizer, words):
    import sacrebleu

    predictions, references = texts
    scores = score_texts(predictions, references, language)
    assert scores["bleu"] * 100 == pytest.approx(
        sacrebleu.corpus_bleu(predictions, [references], tokenize=tokenizer).score, rel=1e-12
    )
    assert scores["chrf"] * 100 == pytest.approx(sacrebleu.corpus_chrf(predictions, [references]).score, rel=1e-12)
    for name in ("rouge1", "rouge2", "rougeL"):
        each = [brute_force_rouge(words(p), words(r), name) for p, r in zip(predictions, references, strict=True)]
        assert scores[name] == pytest.approx(sum(each) / len(each), rel=1e-12)
    assert all(0.2 < value < 1 for value in scores.values()) and {type(value) for value in scores.values()} == {float}


@needs_libraries
def test_rouge_is_that_of_the_library_without_stemming():
    from rouge_score.rouge_scorer import RougeScorer

    predictions, references = ENGLISH
    scorer = RougeScorer(["rougeL"], use_stemmer=False)
    pairs = zip(references, predictions, strict=True)
    mean = sum(scorer.score(*pair)["rougeL"].fmeasure for pair in pairs) / len(references)
    assert score_texts(predictions, references)["rougeL"] == pytest.approx(mean, rel=1e-12)
    assert score_texts(["cats"], ["cat"])["rouge1"] == 0


@needs_libraries
def test_bleu_by_hand():
    """Sums over the corpus, brevity penalty, geometric mean of four precisions; not a mean over the texts."""
    # 1-grams 5/6 + 4/4, 2-grams 3/5 + 3/3, 3-grams 1/4 + 2/2, 4-grams 0/3 + 1/1; 10 words for 6 + 5
    predictions = ["the cat is on the mat", "he ate an apple"]
    references = ["the cat sat on the mat", "he ate an apple ."]
    precisions = (9 / 10, 6 / 8, 3 / 6, 1 / 4)
    bleu = math.exp(1 - 11 / 10) * math.prod(precisions) ** 0.25
    assert score_texts(predictions, references)["bleu"] == pytest.approx(bleu, rel=1e-9)
    # Chinese: characters. 我爱北京 for 我爱北京。: all n-grams are right, 4 tokens for 5
    assert score_texts(["我爱北京"], ["我爱北京。"], "zh")["bleu"] == pytest.approx(math.exp(1 - 5 / 4), rel=1e-9)


@needs_libraries
def test_chrf_by_hand():
    """Mean F2 of character 1- to 6-grams without white space: Popović 2015."""
    # abcdefg for abcdef: n-grams 6/7 5/6 4/5 3/4 2/3 1/2, recall 1; sacrebleu averages before it takes F
    precision, recall = sum(n / (n + 1) for n in range(1, 7)) / 6, 1
    chrf = 5 * precision * recall / (4 * precision + recall)
    assert score_texts(["abc defg"], ["abcdef"])["chrf"] == pytest.approx(chrf, rel=1e-9)


@needs_libraries
def test_perfect_nothing_right_and_too_short():
    perfect = score_texts(["我爱北京大学"] * 2, ["我 爱 北京大学"] * 2, "zh")
    assert perfect == pytest.approx(dict.fromkeys(perfect, 1.0))
    nothing = score_texts(["", "xx"], ["我爱北京", "大学"], "zh")
    assert nothing == dict.fromkeys(perfect, 0.0)
    short = score_texts(["three words only"], ["three words only"])
    assert short == pytest.approx(dict.fromkeys(perfect, 1.0) | {"bleu": 0.0})


@needs_libraries
@pytest.mark.parametrize(("language", "same"), [("en", 2 / 4), ("zh", 3 / 4)])
def test_exact_match_and_white_space(language, same):
    predictions, references = ["a  b\n", "我 爱", "ab", "A"], ["a b", "我爱", "ab", "a"]
    assert score_texts(predictions, references, language)["exact_match"] == same


def test_chinese_tokens():
    assert chinese_tokens("我爱NLP，3.5 分_𠀀𰻝𰻝！Ａb") == [*"我爱", "nlp", "3", "5", *"分𠀀𰻝𰻝", "ａb"]


@needs_libraries
def test_signatures_name_what_was_done():
    for language, tokenizer in (("en", "13a"), ("zh", "zh")):
        found = signatures(language)
        library = version("sacrebleu")
        assert found["bleu"] == f"nrefs:1|case:mixed|eff:no|tok:{tokenizer}|smooth:exp|version:{library}"
        assert found["chrf"] == f"nrefs:1|case:mixed|eff:yes|nc:6|nw:0|space:no|version:{library}"
        assert version("rouge-score") in found["rouge"]
    assert "tok:chinese_tokens" in signatures("zh")["rouge"]


@pytest.mark.parametrize(("arguments", "message"), [
    ((["a"], ["a", "b"]), "found 1 for 2"), (([], []), "found 0 for 0"),
    ((["a"], ["a"], "fr"), "unknown language 'fr'; there are en, zh"),
])  # fmt: skip
def test_what_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        score_texts(*arguments)


def test_missing_libraries_are_one_line(tmp_path):
    """A copy of the file, in a Python that sees the standard library only."""
    (tmp_path / "texts.py").write_bytes(TEXTS.read_bytes())
    code = "import sys; sys.path.insert(0, '.'); from texts import score_texts; score_texts(['a'], ['a'])"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, cwd=tmp_path)
    last_line = done.stderr.splitlines()[-1]
    right = "scores of generated texts need: pip install sacrebleu rouge-score"
    assert last_line.startswith(f"texts.MissingLibrary: {right}")
