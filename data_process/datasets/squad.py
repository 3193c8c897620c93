"""SQuAD 1.1 and 2.0: questions about paragraphs of the English Wikipedia, answered by a span, or not at all.

Rajpurkar et al. 2016 and 2018, https://aclanthology.org/D16-1264, https://aclanthology.org/P18-2124;
https://rajpurkar.github.io/SQuAD-explorer/. CC BY-SA 4.0.

Raw files: train-v1.1.json and dev-v1.1.json, or train-v2.0.json and dev-v2.0.json.
"""

from ._squad_format import read_squad as read

__all__ = ["FILES", "FORM", "read"]

FORM = "question_answering"
FILES = ("*.json",)
