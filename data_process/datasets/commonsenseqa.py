"""CommonsenseQA: English questions that need common sense, with five choices.

Talmor et al. 2019, https://aclanthology.org/N19-1421; https://www.tau-nlp.sites.tau.ac.il/commonsenseqa. Licence: see
there.

Raw files: train_rand_split.jsonl, dev_rand_split.jsonl, test_rand_split_no_answers.jsonl, one object per line:
{"answerKey": "A", "id": "…", "question": {"stem": "…", "choices": [{"label": "A", "text": "…"}, …]}}.
"""

from ._choice_format import read_choices as read

__all__ = ["FILES", "FORM", "read"]

FORM = "multiple_choice"
FILES = ("*.jsonl", "*.json")
