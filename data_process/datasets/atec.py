"""ATEC: pairs of Chinese questions to a payment service, whether they mean the same.

Task of the ATEC competition of Ant Financial, 2018, https://dc.cloud.alipay.com/index#/topic/ranking?id=8; copies such
as https://github.com/IceFlameWorm/NLP_Datasets. Licence: none stated.

Raw files: atec_nlp_sim_train.csv and atec_nlp_sim_train_add.csv (name both to join them), or joined …_all.csv: number,
sentence, sentence, label, separated by tabs in spite of the name, with byte order marks also within the first line.
"""

from collections import Counter

from ..readers.lines import Items
from ._question_pairs import FILES, read_pairs

__all__ = ["FILES", "FORM", "read"]

FORM = "pairs"


def read(file: str, notes: Counter[str]) -> Items:
    return read_pairs(file, notes)
