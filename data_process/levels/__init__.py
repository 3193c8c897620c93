"""What a gold label looks like, one file per level; the LABEL_LEVEL of a head names the file.

A level has these members (`label` is the LabelColumn, `schema` the Schema of the record):

    FORM            which inputs its heads need, see inputs.py; None: any
    NAMED           whether labels have names, which are learned from the training data and numbered by a LabelVocab
    DTYPE, DEPTH    of the encoded label: a number, a list or a list of lists of them
    check(where, label, value, record, schema)    raises DataError if `value` is no gold label for this record
    gold(value, record, schema)                   the reference that a head's `score` gets
    names(gold)                                   the label names in it; none where labels have no names
    encode(gold, vocab, feature)                  what a head's `loss` gets; `feature`: the encoded inputs; `gold` is
                                                  None only where the LabelColumn is optional
    shown(value, record, schema)                  a prediction or a reference as it is written to files
    is_right(prediction, gold)                    whether a record is left out of the files of errors
    right(gold)                                   a prediction that could not be better
"""

import importlib
from functools import cache
from typing import Any


@cache
def level_of(name: str) -> Any:
    """The module levels/<name>.py."""
    return importlib.import_module(f"{__name__}.{name}")
