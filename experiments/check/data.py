"""What data_process/ found in the data of a job, as findings."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from data_process.build import Data
from data_process.fingerprints import Copies, Fingerprints, copies, repeats
from data_process.labels import is_entity_tag
from data_process.lengths import Lengths, fitting_length, histogram, measure
from data_process.survey import Survey, illegal_tags, survey

from .table import Finding, bars, clean, percent, place, some

SAMPLE = 2000  # records of all training data that are encoded whole
FEW = 5  # examples: hardly enough to learn a label from
MUCH = 0.01  # share from which on something is more than a note
SCORED = ("eval", "test")

Figures = Mapping[str, Mapping[str, Any]]
Surveys = dict[str, dict[str, Survey]]  # name of a data set -> part -> what is in it


def take_surveys(job: Any) -> Surveys:
    return {name: survey(data, max(100, SAMPLE // len(job.data))) for name, data in job.data.items()}


def data_findings(job: Any, surveys: Surveys, figures: Figures) -> list[Finding]:
    """figures: of each part, see DataSets.figures."""
    found = [records(job, surveys), *(wrong(job)), *missing_parts(job, surveys)]
    for names in groups(job).values():
        where = f" of {group_name(names)}" if len(groups(job)) > 1 else ""
        form = job.data[names[0]].schema.form
        found += duplicates(names, surveys, where, form)
        found += leaks(names, surveys, where, form)
    for task in job.tasks:
        found += labels(job, task["name"], surveys)
    for names in groups(job).values():
        where = f" of {group_name(names)}" if len(groups(job)) > 1 else ""
        found += lengths(job, names, surveys, figures, where)
    return found


def groups(job: Any) -> dict[Any, list[str]]:
    """Data sets whose texts and labels can be compared: those with the same tasks and kind of inputs."""
    found: dict[Any, list[str]] = {}
    for name, data in job.data.items():
        schema = data.schema
        tasks = tuple(sorted(label.task for label in schema.labels))
        alike = (tasks, schema.text_pair_column is None, schema.choices_column is None, schema.prompt)
        found.setdefault(alike, []).append(name)
    return found


def group_name(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) < 4 else f"{names[0]} and {len(names) - 1} others"


def together(names: Sequence[str], surveys: Surveys, part: str) -> Fingerprints:
    """Fingerprints of a part of several data sets."""
    found = Fingerprints()
    for name in names:
        if part in surveys[name]:
            found.extend(surveys[name][part].texts)
    return found


def records(job: Any, surveys: Surveys) -> Finding:
    counts = Counter[str]()
    for parts in surveys.values():
        counts.update({part: len(found.texts) for part, found in parts.items()})
    shown = ", ".join(f"{number:,} {part}" for part, number in counts.items())
    sets = f" in {len(surveys)} data sets" if len(surveys) > 1 else ""
    return Finding("ok", "data", "records", f"{shown}{sets}", dict(counts))


def wrong(job: Any, level: str = "warning") -> Iterator[Finding]:
    """Records that are left out, or would end the run; those with illegal tags by themselves."""
    for data in job.data.values():
        for part, scan in data.scans.items():
            if scan.skipped:
                source = data.sources[part]
                message = f"{part}: {len(scan.skipped):,} of {scan.num_records:,} records cannot be used"
                figures = {"part": part, "source": source, "wrong": len(scan.skipped), "records": scan.num_records}
                yield Finding(level, "data", "wrong records", f"{message}; the first: {scan.mistakes[0]}", figures)
                if illegal := illegal_tags(data, part):
                    scheme = data.schema.tag_scheme.upper()
                    message = f"{part}: {len(illegal):,} of them have tags that {scheme} does not allow"
                    figures = {"part": part, "source": source, "records": len(illegal), "first": illegal[0]}
                    yield Finding(level, "data", "illegal tags", f"{message}; the first: {illegal[0]}", figures)


def missing_parts(job: Any, surveys: Surveys) -> Iterator[Finding]:
    """Tasks without gold labels in some part."""
    for task in (task["name"] for task in job.tasks):
        counts = {part: gold_records(surveys, task, part) for part in ("train", *SCORED)}
        absent = [part for part, number in counts.items() if not number]
        figures = {"task": task, "records": counts}
        optional = [n for data in job.data.values() for n in data.schema.labels if n.task == task and n.optional]
        trains = counts["train"] or (optional and any(task in tasks_of(job.data[n]) for n in job.data.having("train")))
        if not trains and job.folder is None:
            message = f"{task}: no training record has a gold label; its head would stay as it was made"
            yield Finding("error", "data", "parts", message, figures)
        elif others := [part for part in absent if part != "train"]:
            means = {"eval": "best/ is then the newest state, and nothing stops early", "test": "no final score"}
            message = f"{task}: nothing to score in {' and '.join(others)}: {'; '.join(means[part] for part in others)}"
            yield Finding("note", "data", "parts", message, figures)


def tasks_of(data: Data) -> list[str]:
    return [label.task for label in data.schema.labels]


def gold_records(surveys: Surveys, task: str, part: str) -> int:
    return sum(parts[part].with_gold[task] for parts in surveys.values() if part in parts)


def duplicates(names: Sequence[str], surveys: Surveys, where: str, form: str) -> list[Finding]:
    found = {part: repeats(together(names, surveys, part)) for part in ("train", *SCORED)}
    said = ("repeat an earlier one", "{} stand there with different", "each text comes once")
    return of_parts("duplicates", found, where, form, said, much=10 * MUCH)


def leaks(names: Sequence[str], surveys: Surveys, where: str, form: str) -> list[Finding]:
    """Between training and evaluation."""
    train = together(names, surveys, "train")
    found = {part: copies(train, together(names, surveys, part)) for part in SCORED if len(train)}
    said = ("stand in train", "of {} train has other", "no text stands in train")
    return of_parts("leakage", found, where, form, said)


def of_parts(
    what: str, found: Mapping[str, Copies], where: str, form: str, said: tuple[str, str, str], much: float = MUCH
) -> list[Finding]:
    """said: of copies, of those with other gold labels, of parts without any."""
    rows: list[Finding] = []
    does, other, none = said
    for part, copied in found.items():
        if copied.exact or copied.near:
            message = f"{part}{where}: {counted(copied, does)}"
            if copied.other_label:
                message += f"; {other.format(f'{copied.other_label:,}')} {gold_of(form)}"
            level = "warning" if copied.share >= much or contradicts(copied, form) else "note"
            rows.append(of_copies(level, what, part, message, copied))
    clean_parts = [part for part, copied in found.items() if copied.records and not copied.exact + copied.near]
    return rows + none_of(what, clean_parts, f"{', '.join(clean_parts)}{where}: {none}")


def gold_of(form: str) -> str:
    return "targets" if form == "source" else "labels"


def contradicts(found: Copies, form: str) -> bool:
    """A sentence may have many translations, but not many labels."""
    return form != "source" and found.other_label >= MUCH * found.records


def counted(found: Copies, do: str) -> str:
    """do: what copies do."""
    if not found.exact:
        return f"{found.near:,} of {found.records:,} records {do} but for capitals, widths or spaces"
    more = f", {found.near:,} more but for capitals, widths or spaces" if found.near else ""
    return f"{found.exact:,} of {found.records:,} records ({percent(found.share)}) {do}{more}"


def of_copies(level: str, what: str, part: str, message: str, found: Copies) -> Finding:
    if found.examples:
        message += f" ({' = '.join(map(place, found.examples[0]))})"
    return Finding(level, "data", what, message, {"part": part, "share": found.share, **asdict(found)})


def none_of(what: str, parts: Sequence[str], message: str) -> list[Finding]:
    return [Finding("ok", "data", what, message, {"parts": [*parts], "exact": 0, "near": 0})] if parts else []


# ---------------------------------------------------------------------------------------------------------- labels


def labels(job: Any, task: str, surveys: Surveys) -> Iterator[Finding]:
    """Coverage and balance."""
    counts = {part: label_counts(surveys, task, part) for part in ("train", *SCORED)}
    alike = [parts["train"].alike.get(task) for parts in surveys.values() if has_gold(parts, task)]
    if alike and all(value is not None and value == alike[0] for value in alike):
        message = f"{task}: all training records have the same gold label, {clean(str(alike[0]))[:40]}"
        yield Finding("error", "data", "labels", f"{message}: there is nothing to learn", {"task": task})
        return
    train = counts["train"]
    if not train:
        return
    yield balance(task, train, level_of_task(job, task))
    for part in SCORED:
        new = {label: number for label, number in counts[part].items() if label not in known_labels(job, task, train)}
        if new:
            share = sum(new.values()) / counts[part].total()
            level = "error" if share == 1 else "warning"
            message = f"{task}: {part} has {len(new)} labels that train lacks, {percent(share)} of its labels; they "
            message += f"can only be missed: {some([*new])}"
            yield Finding(level, "data", "new labels", message, {"task": task, "part": part, "counts": new})
    if unused := [label for label in given(job, task) if label not in train]:
        message = f"{task}: no training example of {len(unused)} of the labels: {some(unused)}"
        yield Finding("warning", "data", "labels", message, {"task": task, "labels": unused})


def has_gold(parts: Mapping[str, Survey], task: str) -> bool:
    return "train" in parts and parts["train"].with_gold[task] > 0


def label_counts(surveys: Surveys, task: str, part: str) -> Counter[str]:
    found = Counter[str]()
    for parts in surveys.values():
        if part in parts:
            found.update(parts[part].counts.get(task, {}))
    return found


def given(job: Any, task: str) -> list[str]:
    """The labels of a task; of tags their entities."""
    names = next(entry["labels"] for entry in job.tasks if entry["name"] == task)
    begun = [name[2:] for name in names if name.startswith("B-")]
    return begun or [name for name in names if not is_entity_tag(name)]


def known_labels(job: Any, task: str, train: Counter[str]) -> set[str]:
    """Of a saved model also those that it was trained with."""
    return {*train, *(given(job, task) if job.folder is not None else ())}


def level_of_task(job: Any, task: str) -> str:
    return next(label.level for data in job.data.values() for label in data.schema.labels if label.task == task)


def balance(task: str, train: Counter[str], level: str) -> Finding:
    ordered = train.most_common()
    (most, highest), (least, lowest) = ordered[0], ordered[-1]
    rare = [label for label, number in ordered if number < FEW]
    share = highest / train.total()
    message = f"{task}: {len(train)} labels; most frequent {clean(most)} ({highest:,}, {percent(share)}), rarest "
    message += f"{clean(least)} ({lowest:,})"
    if rare:
        message += f"; fewer than {FEW} examples of {len(rare)}: {some(rare[::-1])}"
    uneven = len(train) > 1 and highest >= 20 * lowest
    if uneven and level == "sequence":
        message += "; look at macro F1, try class_weights: balanced or --balanced_sampling"
    figures = {"task": task, "labels": len(train), "most": highest, "least": lowest, "rare": rare}
    return Finding("note" if rare or uneven else "ok", "data", "labels", message, figures)


# --------------------------------------------------------------------------------------------------------- lengths


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
