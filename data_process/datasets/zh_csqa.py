"""X-CSQA in Chinese: questions of CommonsenseQA that need common sense, translated, with five choices.

Lin et al. 2021, "Common Sense Beyond English", https://aclanthology.org/2021.acl-long.102;
https://inklab.usc.edu/XCSR/. MIT (https://huggingface.co/datasets/INK-USC/xcsr).

Raw files: X-CSQA/zh/dev.jsonl and test.jsonl (without answers), one object per line in the form of CommonsenseQA.
"""

from ._choice_format import read_choices as read

__all__ = ["FILES", "FORM", "read"]

FORM = "multiple_choice"
FILES = ("*.jsonl", "*.json")
