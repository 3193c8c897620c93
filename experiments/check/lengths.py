"""Lengths in sub-words: what is cut, what --max_length should be, and what the tokenizer cannot write."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from data_process.lengths import Lengths, fitting_length, histogram, measure

from .surveys import SCORED, Surveys
from .table import MUCH, Finding, bars, clean, percent, some

Figures = Mapping[str, Mapping[str, Any]]  # part -> its figures, see DataSets.figures


def lengths(job: Any, names: Sequence[str], surveys: Surveys, figures: Figures, where: str) -> Iterator[Finding]:
    """Truncation, a histogram and unknown sub-words of the training records, or where there are none of others."""
    part = next((p for p in ("train", *SCORED, "predict") if any(p in surveys[name] for name in names)), None)
    samples = [(job.data[name], surveys[name][part].sample) for name in names if part in surveys[name]]
    if part is None or not any(sample for _, sample in samples):
        return
    found = added([measure(data, sample) for data, sample in samples if sample])
    total = sum(len(surveys[name][part].texts) for name in names if part in surveys[name])
    number = len(found.lengths)
    about = f"{part}{where}, " + (f"all {total:,} records" if number == total else f"{number:,} of {total:,} sampled")
    yield truncation(job, found, exact_shares(job, names, figures, "truncated_share"), about)
    yield long_enough(job, found, about)
    yield unknown(job.tokenizer, found, exact_shares(job, names, figures, "unknown_token_share"), about)


def added(several: Sequence[Lengths]) -> Lengths:
    total = Lengths()
    for found in several:
        for name, value in vars(found).items():
            setattr(total, name, getattr(total, name) + value)
    return total


def exact_shares(job: Any, names: Sequence[str], figures: Figures, which: str) -> dict[str, float]:
    """Part -> a share of all its records or sub-words, where all are encoded."""
    weight = "records" if which == "truncated_share" else "tokens"
    found = {}
    for part in ("train", *SCORED):
        own = [figures[job.data.part_name(name, part)] for name in names if part in job.data[name].sources]
        if own and all(which in each for each in own):
            found[part] = sum(each[which] * each[weight] for each in own) / max(sum(each[weight] for each in own), 1)
    return found


def truncation(job: Any, found: Lengths, shares: dict[str, float], about: str) -> Finding:
    """shares: part -> share of its records that are cut."""
    sampled = found.truncated / len(found.lengths)
    lost = {task: number / found.gold[task] for task, number in found.lost.items() if number}
    figures = {"truncated_share": shares or {"sampled": sampled}, "lost_share": lost, "sampled": len(found.lengths)}
    cut = ", ".join(f"{percent(share)} of {part}" for part, share in shares.items()) or f"{percent(sampled)} ({about})"
    message = f"cut at {job.args.max_length} sub-words: {cut}"
    if job.args.stride:
        message = f"long texts become windows that share {job.args.stride} sub-words; cut are {cut}"
    if lost:
        parts = ", ".join(f"{percent(part)} of those of {task}" for task, part in lost.items())
        message += f"; gold labels lost: {parts} ({about})"
    much = max([sampled, *shares.values(), *lost.values()])
    level = "warning" if much >= MUCH else "note" if much else "ok"
    if whole := [task for task, part in lost.items() if part == 1]:
        level, message = "error", f"{message}: nothing is left to learn {some(whole)} from"
    return Finding(level, "data", "truncation", message, figures)


def long_enough(job: Any, found: Lengths, about: str) -> Finding:
    """The histogram, and what --max_length should be."""
    steps, fitting, longest = histogram(found.lengths), fitting_length(found.lengths), max(found.lengths)
    now = job.args.max_length
    figures = {"histogram": steps, "fits_99": fitting, "longest": longest, "max_length": now}
    share = sum(length > now for length in found.lengths) / len(found.lengths)
    fit = "fit into one window" if job.args.stride else "fit"
    message = f"--max_length {now}: {percent(1 - share)} of the records {fit}, the longest has {longest} ({about})"
    level = "ok"
    if share >= MUCH and not job.args.stride:
        level = "note"
        message += f"; {fitting} would fit 99 %, if the encoder reads so much"
        windows = any(data.encode.inputs.least_window() > 0 for data in job.data.values())
        message += ", and with --stride 32 nothing is cut" * windows
    elif now >= 2 * fitting:
        message += f"; {fitting} would do for 99 %"
    return Finding(level, "data", "lengths", message + "\n" + "\n".join(bars(steps)), figures)


def unknown(tokenizer: Any, found: Lengths, shares: dict[str, float], about: str) -> Finding:
    """shares: part -> share of its sub-words that are unknown."""
    sampled = found.num_unknown / max(found.num_tokens, 1)
    figures = {"unknown_share": shares or {"sampled": sampled}, "most_frequent": found.unknown.most_common(10)}
    if tokenizer.unk_token_id is None:
        return Finding("ok", "data", "unknown", "the tokenizer can write any text", figures)
    parts = ", ".join(f"{percent(share)} of {part}" for part, share in shares.items()) or percent(sampled)
    message = f"{tokenizer.unk_token}: {parts}"
    if found.unknown:
        most = ", ".join(f"{clean(text)} {number}" for text, number in found.unknown.most_common(8))
        message += f", most often {most} ({about})"
    much = max([sampled, *shares.values()])
    level = "ok" if much < 0.001 else "note" if much < MUCH else "warning"
    if level == "warning":
        message += "; try another model, or --extra_tokens"
    return Finding(level, "data", "unknown", message, figures)
