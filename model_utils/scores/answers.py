"""Extractive question answering: exact match and F1 of SQuAD 2.0 (English) and CMRC 2018 (Chinese).

    score_answers(["the Eiffel tower"], [["Eiffel Tower", "tower"]])        # {"exact_match": 1.0, "f1": 1.0}
    score_answers(["山东省北部"], [["山东省"]], language="zh")                # {"exact_match": 0.0, "f1": 0.75}

Question by question the same numbers as the official scripts, on a scale of 0 to 1 where these print percent:
SQuAD 2.0, evaluate-v2.0.py (Rajpurkar et al. 2018, https://rajpurkar.github.io/SQuAD-explorer/), which on answerable
questions is that of SQuAD 1.1; CMRC 2018, cmrc2018_evaluate.py v6 (Cui et al. 2019, https://github.com/ymcui/cmrc2018).

Copy: alone; needs only Python.
"""

import re
import string
from collections import Counter
from collections.abc import Sequence
from difflib import SequenceMatcher


def score_answers(
    predictions: Sequence[str], references: Sequence[Sequence[str]], language: str = "en"
) -> dict[str, float]:
    """
    Args:
        predictions: one answer per question; "" where the question has none.
        references: the gold answers of each question, of which the best one counts; [] or [""] where there is none.
        language: "en" (SQuAD) or "zh" (CMRC 2018).

    Returns: {"exact_match", "f1"}, means over the questions, 0 to 1.
    """
    if len(predictions) != len(references) or not predictions:
        raise ValueError(f"one prediction per question, found {len(predictions)} for {len(references)} questions")
    pairs = zip(predictions, references, strict=True)
    exact, f1 = zip(*(score_answer(prediction, answers, language) for prediction, answers in pairs), strict=True)
    return {"exact_match": sum(exact) / len(exact), "f1": sum(f1) / len(f1)}


def score_answer(prediction: str, answers: Sequence[str], language: str = "en") -> tuple[float, float]:
    """(exact match, F1) of one question, each the best over its gold answers."""
    if isinstance(answers, str):
        raise ValueError(f"the gold answers of a question are a list of texts, found the text {answers!r}")
    if language == "en":
        return squad(prediction, answers)
    if language == "zh":
        return cmrc(prediction, answers)
    raise ValueError(f"unknown language {language!r}; there are en, zh")


def f1_score(common: int, predicted: int, gold: int) -> float:
    """From numbers of words. The order of the operations is the official one: the last bit depends on it."""
    if common == 0:
        return 0.0
    precision, recall = common / predicted, common / gold
    return 2 * precision * recall / (precision + recall)


# ------------------------------------------------------------------------------------------------------- SQuAD

NO_ASCII_PUNCTUATION = str.maketrans("", "", string.punctuation)


def squad(prediction: str, answers: Sequence[str]) -> tuple[float, float]:
    """Gold answers of which nothing is left are dropped; without any, only the empty prediction is right."""
    predicted = squad_words(prediction)
    golds = [words for answer in answers if (words := squad_words(answer))] or [[]]
    return float(predicted in golds), max(squad_f1(predicted, gold) for gold in golds)


def squad_words(text: str) -> list[str]:
    """Lower case; ASCII punctuation goes first ("the-end" is one word), then articles."""
    return re.sub(r"\b(a|an|the)\b", " ", text.lower().translate(NO_ASCII_PUNCTUATION)).split()


def squad_f1(predicted: list[str], gold: list[str]) -> float:
    if not predicted or not gold:
        return float(predicted == gold)
    return f1_score((Counter(predicted) & Counter(gold)).total(), len(predicted), len(gold))


# -------------------------------------------------------------------------------------------------------- CMRC

# The script's list also has "……", which is compared with single characters, so that an ellipsis stays.
NO_CMRC_PUNCTUATION = str.maketrans("", "", "-:_*^/\\~`+=，。：？！“”；’《》·、「」（）－～『』")


def cmrc(prediction: str, answers: Sequence[str]) -> tuple[float, float]:
    """Every question of CMRC 2018 has an answer; without one, only the empty prediction is right, as in SQuAD 2.0.

    Exact match compares what is left of the texts, white space included. F1 counts the longest run of words that
    both have. Two texts of nothing but punctuation are an exact match with F1 0, as in the script.
    """
    if not any(answer.strip() for answer in answers):
        nothing = float(not without_punctuation(prediction).strip())
        return nothing, nothing
    exact = without_punctuation(prediction) in map(without_punctuation, answers)
    predicted = cmrc_words(prediction)
    return float(exact), max(cmrc_f1(predicted, cmrc_words(answer)) for answer in answers)


def cmrc_f1(predicted: list[str], gold: list[str]) -> float:
    common = SequenceMatcher(None, predicted, gold, autojunk=False).find_longest_match().size
    return f1_score(common, len(predicted), len(gold))


def without_punctuation(text: str) -> str:
    return text.lower().strip().translate(NO_CMRC_PUNCTUATION)


def cmrc_words(text: str) -> list[str]:
    """Chinese characters one by one, what is between them cut into English words."""
    words: list[str] = []
    for part in re.findall(r"[\u4e00-\u9fa5]+|[^\u4e00-\u9fa5]+", without_punctuation(text)):
        words += part if "\u4e00" <= part[0] <= "\u9fa5" else english_words(part)
    return words


# The script calls nltk.word_tokenize: the Penn Treebank's rules (R. MacIntyre's sed script) in the variant of nltk's
# NLTKWordTokenizer (3.10, Apache-2.0). Here they are for lower case and without the characters removed above.
# One difference: nltk cuts sentences first, with a trained model, and a full stop ends each. Texts between Chinese
# characters rarely hold two; the 4,378 gold answers of the trial and dev sets are cut alike either way.
TREEBANK_RULES = [
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"[«‘„]", r" \g<0> "),
        (r'^"', " `` "),  # a quotation mark that opens becomes ``, one that closes ''
        (r"(?<=[ (\[{<])(?:\"|'')", " `` "),
        (r"(?<!\w)'(?!(?:re|ve|ll|m|t|s|d|n)\b)(?=\w)", "' "),
        (r"(?<=[^.])\.(?=[])}>\"'» ]*\s*$)", " . "),  # only the last full stop is cut off
        (r",(\D|$)", r" , \1"),
        (r"\.{2,}|[;@#$%&\u2012-\u2015?!]", r" \g<0> "),
        (r"(?<=[^'])' ", " ' "),
        (r"[]\[(){}<>»]", r" \g<0> "),
        (r"''|\"", " '' "),
        (r"^|\s+|$", " "),
        (r"([^' ])('[smd]?) ", r"\1 \2 "),
        (r"([^' ])('ll|'re|'ve|n't) ", r"\1 \2 "),
        (r"\b(can)(not)\b", r" \1 \2 "),
        (r"\b(d)('ye)\b", r" \1 \2 "),
        (r"\b(gim)(me)\b", r" \1 \2 "),
        (r"\b(gon)(na)\b", r" \1 \2 "),
        (r"\b(got)(ta)\b", r" \1 \2 "),
        (r"\b(lem)(me)\b", r" \1 \2 "),
        (r"\b(more)('n)\b", r" \1 \2 "),
        (r"\b(wan)(na) ", r" \1 \2 "),
        (r" ('t)(is)\b", r" \1 \2 "),
        (r" ('t)(was)\b", r" \1 \2 "),
    )
]


def english_words(text: str) -> list[str]:
    for pattern, replacement in TREEBANK_RULES:
        text = pattern.sub(replacement, text)
    return text.split()
