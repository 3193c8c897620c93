"""model_utils/scores/answers.py against the official scripts' procedures, written down again the long way round.

The words between Chinese characters are those of nltk itself.
"""

import json
import os
import random
import re
import string
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from model_utils.scores.answers import english_words, score_answer, score_answers, without_punctuation

DATA = Path(os.environ.get("DATA_DIR", Path(__file__).parents[1] / "data"))

# ------------------------------------------------------------------ evaluate-v2.0.py and evaluate-v1.1.py of SQuAD


def squad_text(text):
    kept = "".join(character for character in text.lower() if character not in set(string.punctuation))
    return " ".join(re.compile(r"\b(a|an|the)\b", re.UNICODE).sub(" ", kept).split())


def squad_f1(prediction, answer, no_answer_rule):
    predicted, gold = squad_text(prediction).split(), squad_text(answer).split()
    if no_answer_rule and not (predicted and gold):
        return int(predicted == gold)
    left, common = list(gold), 0
    for word in predicted:
        if word in left:
            left.remove(word)
            common += 1
    if common == 0:
        return 0
    precision = 1.0 * common / len(predicted)
    recall = 1.0 * common / len(gold)
    return (2 * precision * recall) / (precision + recall)


def squad_v2(prediction, answers):
    answers = [answer for answer in answers if squad_text(answer)] or [""]
    return (
        max(int(squad_text(answer) == squad_text(prediction)) for answer in answers),
        max(squad_f1(prediction, answer, True) for answer in answers),
    )


def squad_v1(prediction, answers):
    return (
        max(squad_text(answer) == squad_text(prediction) for answer in answers),
        max(squad_f1(prediction, answer, False) for answer in answers),
    )


# ------------------------------------------------------------------------------------------ cmrc2018_evaluate.py v6

REMOVED = ["-", ":", "_", "*", "^", "/", "\\", "~", "`", "+", "=", "，", "。", "：", "？", "！", "“", "”", "；", "’",
           "《", "》", "……", "·", "、", "「", "」", "（", "）", "－", "～", "『", "』"]  # fmt: skip


@pytest.fixture(scope="module")
def word_tokenize():
    """nltk.word_tokenize for one sentence; its cutting into sentences needs data that is not here."""
    return pytest.importorskip("nltk", reason="pip install nltk").tokenize.NLTKWordTokenizer().tokenize


def cmrc_segments(text, word_tokenize):
    segments, pending = [], ""
    for character in text.lower().strip():
        if character in REMOVED:
            continue
        if re.search(r"[一-龥]", character):
            segments += [*word_tokenize(pending), character]
            pending = ""
        else:
            pending += character
    return segments + word_tokenize(pending)


def longest_common_run(first, second):
    runs = {tuple(first[i:j]) for i in range(len(first)) for j in range(i + 1, len(first) + 1)}
    sizes = [j - i for i in range(len(second)) for j in range(i + 1, len(second) + 1) if tuple(second[i:j]) in runs]
    return max(sizes, default=0)


def cmrc(prediction, answers, word_tokenize):
    def bare(text):
        return "".join(character for character in text.lower().strip() if character not in REMOVED)

    scores, predicted = [], cmrc_segments(prediction, word_tokenize)
    for answer in answers:
        gold = cmrc_segments(answer, word_tokenize)
        common = longest_common_run(gold, predicted)
        if common == 0:
            scores.append(0)
            continue
        precision = 1.0 * common / len(predicted)
        recall = 1.0 * common / len(gold)
        scores.append((2 * precision * recall) / (precision + recall))
    return int(any(bare(answer) == bare(prediction) for answer in answers)), max(scores)


# --------------------------------------------------------------------------------------------------------- strings

# What the rules of either script look at, and pieces that meet several of them.
PIECES = [*"aeinostx019 .,'\"?!;@#$%&()[]{}<>«»‘„|é٣\n　", *"京大中", "龥", "龦", "ω", "—", "–", "…", "……",
          "a ", "an ", "the ", "The-", " cat ", "''", "...", "'s", "'re ", "n't ", "'ll", "cannot ", "gonna", "wanna ",
          "wanna'", "gimme", "lemme", "gotta", "more'n", "d'ye", "'tis", "'twas ", "st. ", "3,000", "u.s.", "x'm'}",
          "1's' ", *(mark for mark in REMOVED if mark != "……")]  # fmt: skip
# nltk 3.10 has its regular expressions from the package regex, where combining marks (İ has one in lower case) and a
# few other characters are letters, unlike in the standard library that it had when the script was written.
PLAIN = st.characters(categories=["Lu", "Ll", "Lo", "Nd", "Po", "Ps", "Pe", "Zs"], exclude_characters="İ")
TEXTS = st.lists(st.sampled_from(PIECES), max_size=10).map("".join) | st.text(PLAIN, max_size=8)


@st.composite
def questions(draw):
    """(prediction, gold answers) that often have something in common."""
    answers = draw(st.lists(TEXTS, min_size=1, max_size=3))
    near = draw(st.sampled_from(answers)) + draw(st.sampled_from(["", "。", " the", "大"]))
    return draw(TEXTS | st.just(near) | st.just(near[1:]) | st.just(near.upper())), answers


@given(questions())
@example(("the", ["a", "The!"]))
@example(("", ["the", "cat"]))
@example(("the-end", ["end"]))
def test_english_is_squad_2(question):
    assert score_answer(*question) == squad_v2(*question)


@given(questions())
def test_english_is_squad_1_where_every_gold_answer_has_a_word(question):
    prediction, answers = question
    answers = [answer for answer in answers if squad_text(answer)] or ["cat"]
    assert score_answer(prediction, answers) == squad_v1(prediction, answers)


@given(question=questions())
@example(question=("。", ["——", "北"]))
@example(question=("- a", ["a"]))
@example(question=("北京大学", ["北大京学"]))
def test_chinese_is_cmrc_2018(word_tokenize, question):
    prediction, answers = question
    answers = answers if any(answer.strip() for answer in answers) else ["北京"]
    assert score_answer(prediction, answers, "zh") == cmrc(prediction, answers, word_tokenize)


def test_chinese_punctuation_is_the_scripts_list():
    for mark in {*string.punctuation, *"‘’“”…—–・·．｡ ", *(mark for mark in REMOVED if mark != "……")}:
        assert score_answer(f"北{mark}京", ["北京"], "zh")[0] == (mark in REMOVED)


def test_words_between_chinese_characters_are_those_of_nltk(word_tokenize):
    """Every rule decides several of these."""
    chance = random.Random(0)
    for _ in range(5_000):
        text = without_punctuation("".join(chance.choices(PIECES, k=chance.randint(1, 9))))
        assert english_words(text) == word_tokenize(text)


@given(st.lists(questions(), min_size=1, max_size=20), st.sampled_from(["en", "zh"]))
def test_totals_are_the_scripts_percentages(questions, language):
    predictions, references = zip(*questions, strict=True)
    exact, f1 = zip(*(score_answer(p, answers, language) for p, answers in questions), strict=True)
    scores = score_answers(predictions, references, language)
    assert scores["exact_match"] * 100 == pytest.approx(100.0 * sum(exact) / len(questions), rel=1e-12)
    assert scores["f1"] * 100 == pytest.approx(100.0 * sum(f1) / len(questions), rel=1e-12)
    assert {type(value) for value in scores.values()} == {float}


@pytest.mark.parametrize(("language", "prediction", "answers", "scores"), [
    ("en", "the Eiffel tower", ["Eiffel Tower", "tower"], (1, 1)),
    ("en", "in Paris, France", ["Paris", "in the city of Paris"], (0, 4 / 7)),  # in, paris of 3 and of 4 words
    ("en", "Paris Paris", ["Paris"], (0, 2 / 3)), ("en", "ha ha", ["ha, ha, ho"], (0, 4 / 5)),  # as often as in both
    ("en", "a cat, an owl", ["The cat. Owl!"], (1, 1)), ("en", "theme", ["me"], (0, 0)),
    ("en", "", [], (1, 1)), ("en", "the", [""], (1, 1)), ("en", "Paris", [], (0, 0)), ("en", "", ["Paris"], (0, 0)),
    ("en", "", ["the", "Paris"], (0, 0)),  # a gold answer without words is none while there are others
    ("zh", "山东省北部", ["山东省"], (0, 3 / 4)),
    ("zh", "北京大学", ["北大京学"], (0, 1 / 4)),  # the same characters, but no two in a row
    ("zh", "北上京大学", ["北下京大学"], (0, 3 / 5)), ("zh", " 北京 ", ["北京"], (1, 1)),
    ("zh", "京龦龦", ["京龦"], (0, 1 / 2)),  # the script's Chinese characters end at 龥, the one before 龦
    ("zh", "1997年11月", ["1997年-11月"], (1, 1)), ("zh", "Peter A. Smith著", ["peter a. smith"], (0, 6 / 7)),
    ("zh", "北京…", ["北京"], (0, 4 / 5)), ("zh", "北京……", ["北京"], (0, 4 / 5)),  # not in the script's list after all
    ("zh", "- 北京", ["北京"], (0, 1)),  # white space left by punctuation counts for exact match only
    ("zh", "。", ["——"], (0, 0)), ("zh", "。", ["-"], (1, 0)),
    ("zh", "", [], (1, 1)), ("zh", "。", [""], (1, 1)), ("zh", "北京", [], (0, 0)), ("zh", "", ["北京"], (0, 0)),
])  # fmt: skip
def test_by_hand(language, prediction, answers, scores):
    assert score_answer(prediction, answers, language) == pytest.approx(scores, rel=1e-12)


def test_real_answers_with_wrong_borders(word_tokenize):
    """Every second gold answer as it is, the others shifted, stretched or cut in their contexts."""
    path = DATA / "cmrc2018_small" / "test.jsonl"
    if not path.exists():
        pytest.skip("data/cmrc2018_small is not here; DATA_DIR names the folder of the data sets")
    chance = random.Random(0)
    predictions, references = [], []
    for line in path.read_text(encoding="utf-8").splitlines():
        record = json.loads(line)
        answers, start = record["answers"]["text"], record["answers"]["answer_start"][0]
        end = start + len(answers[0])
        if chance.random() < 0.5:
            start, end = max(0, start + chance.randint(-6, 6)), end + chance.randint(-6, 6)
        predictions.append(record["context"][start:end])
        references.append(answers)
    expected = [cmrc(p, answers, word_tokenize) for p, answers in zip(predictions, references, strict=True)]
    assert [score_answer(p, answers, "zh") for p, answers in zip(predictions, references, strict=True)] == expected
    scores = score_answers(predictions, references, "zh")
    exact, f1 = zip(*expected, strict=True)
    assert scores == {"exact_match": sum(exact) / len(exact), "f1": sum(f1) / len(f1)}
    assert 0.4 < scores["exact_match"] < scores["f1"] < 1


@pytest.mark.parametrize(("arguments", "message"), [
    ((["a"], [["a"], ["b"]]), "found 1 for 2 questions"), (([], []), "found 0 for 0"),
    ((["a"], [["a"]], "fr"), "unknown language 'fr'; there are en, zh"), ((["a"], ["a"]), "a list of texts"),
])  # fmt: skip
def test_what_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        score_answers(*arguments)
