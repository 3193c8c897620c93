"""The table of wrong records with its filters; page.js fills it."""

from collections.abc import Sequence
from urllib.parse import quote

from .errors import MOST_ROWS, SUSPECT_SHARE, Table
from .markup import Markup, Section, element, joined


def errors(tables: Sequence[Table]) -> Section | None:
    if not tables:
        return None
    total = sum(len(table.rows) for table in tables)
    if not total:
        return "errors", "Wrong records", element("p", "None.")
    files = [[element("a", f"{table.name}.{kind}", href=quote(f"errors/{table.name}.{kind}")), " "]
             for table in tables for kind in ("csv", "jsonl")]  # fmt: skip
    shown = f" The first {MOST_ROWS:,} are here, the files have all." if total > MOST_ROWS else ""
    note = element(
        "p", "A row per record and task that was wrong. Confidence: of its surest wrong decision. Loss: of the record; "
        f"the highest {SUSPECT_SHARE:.0%} of a task are marked ", element("span", "label?", class_="suspect"),
        f", because wrong gold labels gather there.{shown} As files: ", files, class_="note",
    )  # fmt: skip
    controls = element(
        "form",
        choice("part", "Part"), choice("task", "Task"), choice("gold", "Gold"), choice("predicted", "Predicted"),
        field("search", "Text contains", type_="search", autocomplete="off"),
        field("confidence", "Confidence from", type_="number", min="0", max="1", step="0.05"),
        field("loss", "Loss from", type_="number", min="0", step="any"),
        field("shortest", "Length from", type_="number", min="0"),
        field("longest", "Length to", type_="number", min="0"),
        choice("order", "Order"),
        element("label", element("input", type_="checkbox", id="suspects"), " only probable label errors",
                class_="check"),
        element("button", "Reset", type_="button", id="clear"), id="filters",
    )  # fmt: skip
    heads = [("gold", "gold"), ("predicted", "predicted"), ("text", "text"), ("confidence", "conf."), ("loss", "loss"),
             ("length", "length")]  # fmt: skip
    row = [element("th", element("button", name, type_="button", data_order=key) if key != "text" else name,
                   scope="col", class_=f"of-{key}") for key, name in heads]  # fmt: skip
    table = element("table", element("caption", "Wrong records", class_="unseen"), element("thead", element("tr", row)),
                    element("tbody", id="rows"), id="wrong")  # fmt: skip
    place = element("label", "page ", element("input", type_="number", id="page", min="1", value="1"), " of ",
                    element("span", id="pages"))  # fmt: skip
    pages = element(
        "div", element("output", id="count", aria_live="polite"),
        element("span", turn("first", "«", "first page"), turn("back", "‹", "page before"), place,
                turn("forth", "›", "next page"), turn("last", "»", "last page")),
        class_="pages",
    )  # fmt: skip
    hint = element("noscript", element("p", "The table needs JavaScript; the files above have the same."))
    return "errors", "Wrong records", joined(note, hint, controls, pages, table)


def turn(identity: str, sign: str, label: str) -> Markup:
    return element("button", sign, type_="button", id=identity, aria_label=label)


def choice(identity: str, label: str) -> Markup:
    return element("label", label, element("select", id=identity))


def field(identity: str, label: str, **attributes: str) -> Markup:
    return element("label", label, element("input", id=identity, **attributes))
