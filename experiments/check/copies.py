"""Texts that stand twice in a part, or in training and evaluation."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict

from data_process.fingerprints import Copies, Fingerprints, copies, repeats

from .surveys import SCORED, Surveys
from .table import MUCH, Finding, percent, place


def together(names: Sequence[str], surveys: Surveys, part: str) -> Fingerprints:
    """Fingerprints of a part of several data sets."""
    found = Fingerprints()
    for name in names:
        if part in surveys[name]:
            found.extend(surveys[name][part].texts)
    return found


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
