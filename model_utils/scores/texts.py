"""Generated texts against reference texts: BLEU and chrF by sacrebleu, ROUGE by rouge-score, exact match.

    scores = score_texts(["a cat sat on the mat"], ["the cat sat on the mat"])
    scores = score_texts(["我爱北京"], ["我爱北京。"], language="zh")
    signatures("zh")["bleu"]            # what to quote beside a figure

BLEU: Papineni et al. 2002, in the form of Post 2018 (https://github.com/mjpost/sacrebleu); chrF: Popović 2015; ROUGE:
Lin 2004 (https://github.com/google-research/google-research/tree/master/rouge).

Copy: alone; needs rouge-score, sacrebleu.
"""

import re
from collections.abc import Sequence
from importlib.metadata import version
from types import SimpleNamespace
from typing import Any

BLEU_TOKENIZER = {"en": "13a", "zh": "zh"}
ROUGE_TYPES = ("rouge1", "rouge2", "rougeL")
CHINESE = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"


class MissingLibrary(ImportError):
    """An optional library is not installed; the message has the command."""

    exit_code = 2


def score_texts(predictions: Sequence[str], references: Sequence[str], language: str = "en") -> dict[str, float]:
    """All scores from 0 to 1.

    Args:
        predictions, references: one text each per record, as people write it (not tokenized).
        language: "en" or "zh" (BLEU with sacrebleu's tokenizer "zh", ROUGE over `chinese_tokens`).

    Returns:
        bleu, chrf: over the whole corpus, sacrebleu's figures divided by 100. BLEU counts runs of one to four tokens:
            if no prediction has four, it is 0.
        rouge1, rouge2, rougeL: mean F-measure of the records; rouge-score's own tokens for English (a-z and 0-9 in
            lower case, no stemming).
        exact_match: share of equal texts, white space counted as one space in English and not at all in Chinese.
    """
    if len(predictions) != len(references) or not predictions:
        raise ValueError(f"one prediction per reference, found {len(predictions)} for {len(references)}")
    bleu, chrf, rouge = metrics(language)
    pairs = list(zip(predictions, references, strict=True))
    rouges = [rouge.score(reference, prediction) for prediction, reference in pairs]
    gap = "" if language == "zh" else " "
    return {
        "bleu": bleu.corpus_score(predictions, [references]).score / 100,
        "chrf": chrf.corpus_score(predictions, [references]).score / 100,
        **{name: float(sum(scores[name].fmeasure for scores in rouges) / len(pairs)) for name in ROUGE_TYPES},
        "exact_match": sum(gap.join(p.split()) == gap.join(r.split()) for p, r in pairs) / len(pairs),
    }


def signatures(language: str = "en") -> dict[str, str]:
    """How the figures were made: sacrebleu's signatures of BLEU and chrF, and one like them for ROUGE."""
    bleu, chrf, _ = metrics(language)
    for metric in (bleu, chrf):
        metric.corpus_score([""], [[""]])  # sacrebleu signs after a score: it notes the number of references
    tokens = "chinese_tokens" if language == "zh" else "default"
    rouge = f"mean F-measure|tok:{tokens}|stem:no|version:{version('rouge-score')}"
    return {"bleu": str(bleu.get_signature()), "chrf": str(chrf.get_signature()), "rouge": rouge}


def metrics(language: str) -> tuple[Any, Any, Any]:
    """(BLEU, chrF, ROUGE) objects of the two libraries."""
    if language not in BLEU_TOKENIZER:
        raise ValueError(f"unknown language {language!r}; there are {', '.join(BLEU_TOKENIZER)}")
    try:
        from rouge_score.rouge_scorer import RougeScorer
        from rouge_score.tokenizers import DefaultTokenizer
        from sacrebleu.metrics import BLEU, CHRF
    except ImportError as error:
        raise MissingLibrary(f"scores of generated texts need: pip install sacrebleu rouge-score ({error})") from error
    tokenizer = SimpleNamespace(tokenize=chinese_tokens) if language == "zh" else DefaultTokenizer()  # None is logged
    return BLEU(tokenize=BLEU_TOKENIZER[language]), CHRF(), RougeScorer(ROUGE_TYPES, tokenizer=tokenizer)


def chinese_tokens(text: str) -> list[str]:
    """Chinese characters one by one, runs of other letters and digits in lower case; no punctuation.

    rouge-score's own tokens are a-z and 0-9 only: Chinese texts have none, and every score would be 0.
    """
    return re.findall(f"[{CHINESE}]|[^\\W_{CHINESE}]+", text.lower())
