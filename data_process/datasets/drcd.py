"""DRCD: questions about paragraphs of the Chinese Wikipedia in traditional characters, answered by a span.

Shao et al. 2018, https://arxiv.org/abs/1806.00920; https://github.com/DRCKnowledgeTeam/DRCD. CC BY-SA 3.0.

Raw files: DRCD_training.json, DRCD_dev.json, DRCD_test.json, in the form of SQuAD.
"""

from ._squad_format import read_squad as read

__all__ = ["FILES", "FORM", "read"]

FORM = "question_answering"
FILES = ("*.json",)
