"""Real records, written back into the raw format of their corpus, convert to the same records; where the data is.

    DATA_DIR=/mnt/corpora python -m pytest tests/test_datasets_real.py      # -m "" for the training files, too
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import raw_writers as raw
from seqeval.metrics.sequence_labeling import get_entities

from data_process.convert import convert
from data_process.readers import read_records

DATA = Path(os.environ.get("DATA_DIR", Path(__file__).parents[1] / "data"))
PLAIN, OTHER = raw.Dialect(), raw.Dialect(encoding="gb18030", end="\r\n", compress="gz", variant=1, full_width=True)
SPAN_DIALECT = raw.Dialect(bom=2, end="\r", blank="", variant=2)

CASES: list[tuple[str, str, Callable[..., Path], raw.Dialect]] = [  # folder, corpus, writer, dialect
    *(("afqmc", "afqmc", raw.pairs, d) for d in (PLAIN, OTHER, raw.Dialect(variant=2), raw.Dialect(variant=3))),
    *(("stsb_zh", "stsb", raw.scores, d) for d in (PLAIN, OTHER)),
    *(("sst2", "sst2", raw.sentiment, d) for d in (PLAIN, raw.Dialect(variant=2, bom=1))),
    *(("thucnews10", "thucnews", raw.numbered_topics, d) for d in (PLAIN, OTHER)),
    *(("snips", "snips", raw.joint, raw.Dialect(variant=variant)) for variant in (0, 1, 2)),
    *(("cluener", "cluener", raw.spans, d) for d in (PLAIN, SPAN_DIALECT)),
    *(("cmrc2018_small", "cmrc", raw.squad, d) for d in (PLAIN, SPAN_DIALECT)),
    *(("c3_dialogue", "c3", raw.dialogues, d) for d in (PLAIN, SPAN_DIALECT)),
    ("jd21/06_liquor", "jd21", raw.reviews, OTHER),
    ("corpus_zh_modern", "zh_wiki", raw.articles, raw.Dialect(compress="bz2")),
]
PARTS = ["dev", pytest.param("train", marks=pytest.mark.slow)]


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize(("folder", "name", "write", "dialect"), CASES)
def test_real_records_come_back(
    folder: str, name: str, write: Callable[..., Path], dialect: raw.Dialect, part: str, tmp_path: Path
) -> None:
    source = DATA / folder / f"{part}.jsonl"
    if not source.is_file():
        pytest.skip(f"data/{folder} is not here; DATA_DIR names the folder of the data sets")
    records = [prepared(name, record) for _, record in read_records(str(source))]
    path = write(records, tmp_path / "raw" / part / "酒.txt", dialect)
    (converted,), _ = convert(name, [path], tmp_path / "out", on_bad_record="skip")
    expected = [record for record in records if record.get("question") != ""]  # CMRC 2018 has one, TRIAL_776_QUERY_4
    assert [record for _, record in read_records(str(converted.path))] == expected
    assert (converted.num_records, converted.num_skipped) == (len(records), len(records) - len(expected))


def prepared(name: str, record: dict[str, Any]) -> dict[str, Any]:
    if name == "cluener":
        spans = [{"start": first, "end": last + 1, "label": kind} for kind, first, last in get_entities(record["tags"])]
        return record | {"entities": spans}
    # one text begins with a byte order mark, as in its raw file, and converters drop it
    return {key: value.strip("\ufeff") if isinstance(value, str) else value for key, value in record.items()}
