"""The page of a finished run: numbers against scikit-learn and formulas, data that tries to be script, a browser.

The browser is the system's Chromium, driven by playwright; without one of them those tests are skipped.
"""

import csv
import io
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from experiments.report import __main__ as command
from experiments.report import write_report
from experiments.report.charts import decades, line_chart, ticks
from experiments.report.errors import page_data, read_errors, write_csv
from experiments.report.markup import element, json_block
from experiments.report.results import curves
from tests.report_run import INTENTS, write_run

HOSTILE = [
    "</script><script>window.hit=1</script>", "<img src=x onerror=window.hit=1>", "\"'><svg/onload=window.hit=1>",
    "<!--<script>", "a\u2028b\u2029c", "\u202eltr", "שלום", "nul\0nul", "=1+1", "${1}", "&lt;b&gt;", "\ud800", "播放",
]  # fmt: skip


class Page(HTMLParser):
    """Elements, attributes, the text of every cell, and what is in <script>."""

    def __init__(self, content: str):
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.inside: list[str] = []
        self.texts: list[str] = []
        self.scripts: list[str] = []
        self.tables: list[list[list[str]]] = []
        self.feed(content)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.elements.append((tag, dict(attrs)))
        self.inside.append(tag)
        if tag == "table":
            self.tables.append([])
        if tag == "tr":
            self.tables[-1].append([])
        if tag in ("td", "th"):
            self.tables[-1][-1].append("")

    def handle_endtag(self, tag: str) -> None:
        while self.inside and self.inside.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if self.inside[-1:] == ["script"]:
            self.scripts.append(data)
        self.texts.append(data)
        if {"td", "th"} & {*self.inside}:
            self.tables[-1][-1][-1] += data


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """(folder, what is in it) of a run with a report."""
    folder = tmp_path_factory.mktemp("run") / "out"
    made = write_run(folder)
    write_report(folder)
    return folder, made


@pytest.fixture(scope="module")
def page(run):
    return Page((run[0] / "report.html").read_text(encoding="utf-8"))


# ----------------------------------------------------------------------------------------------------------- numbers


def test_the_classes_are_those_of_scikit_learn(run, page):
    gold, predicted = (run[1][key]["intent"] for key in ("gold", "predicted"))
    table = next(table for table in page.tables if table[0][0] == "class")
    assert table[0] == ["class", "precision", "recall", "f1", "support"]
    figures = zip(*precision_recall_fscore_support(gold, predicted, labels=INTENTS), strict=True)
    for label, found, (*shares, support) in zip(INTENTS, table[1:], figures, strict=False):
        assert found == [label, *(f"{share:.3f}" for share in shares), f"{support:,}"]
    macro = precision_recall_fscore_support(gold, predicted, average="macro")[:3]
    assert table[-2][:4] == ["macro average", *(f"{share:.3f}" for share in macro)]


def test_the_matrix_is_that_of_scikit_learn(run, page):
    expected = confusion_matrix(run[1]["gold"]["intent"], run[1]["predicted"]["intent"], labels=INTENTS)
    table = next(table for table in page.tables if table[0][0].startswith("gold"))
    assert table[0][1:] == INTENTS
    assert [[int(cell or 0) for cell in row[1:]] for row in table[1:]] == expected.tolist()


def test_the_calibration_error_is_its_formula(run, page):
    made = run[1]
    bins: dict[int, list[tuple[float, bool]]] = {}
    columns = (made[key]["intent"] for key in ("confidences", "gold", "predicted"))
    for sure, gold, predicted in zip(*columns, strict=True):
        number = next(n for n in range(15) if sure <= (n + 1) / 15)
        bins.setdefault(number, []).append((sure, gold == predicted))
    error = sum(abs(sum(right - sure for sure, right in own)) for own in bins.values()) / len(made["gold"]["intent"])
    assert f"ECE {error:.4f} over 300 decisions" in "".join(page.texts)


def test_rows_are_the_wrong_decisions(run):
    """One per record and task; the highest losses of each task are marked."""
    folder, made = run
    table = read_errors(folder / "errors/test.jsonl", {"intent": {"classes": {}}})
    for task in ("intent", "slots"):
        gold, predicted, sure, losses = (made[key][task] for key in ("gold", "predicted", "confidences", "losses"))
        wrong = [n for n in range(300) if gold[n] != predicted[n]]
        rows = {table.records[row.record]["sample_id"]: row for row in table.rows if row.task == task}
        shape = "tags" if task == "slots" else "label"
        assert sorted(rows) == wrong and {row.shape for row in rows.values()} == {shape}
        for n, row in rows.items():
            surest = sure[n] if task == "intent" else max(
                c for c, a, b in zip(sure[n], gold[n], predicted[n], strict=True) if a != b)  # fmt: skip
            assert (row.confidence, row.loss, row.length) == (surest, losses[n], len(made["texts"][n]))
        marked = sorted(row.loss or 0 for row in rows.values() if row.suspect)
        assert marked == sorted(losses[n] for n in wrong)[-len(marked) :] and len(marked) == -(-len(wrong) // 20)
    sure = [row.confidence or 0 for row in table.rows]
    assert sure == sorted(sure, reverse=True)


def test_the_csv_has_the_same_rows(run):
    folder, made = run
    content = (folder / "errors/test.csv").read_bytes()
    assert content.startswith(b"\xef\xbb\xbf")
    rows = list(csv.DictReader(content.decode("utf-8-sig").splitlines()))
    table = read_errors(folder / "errors/test.jsonl", {"intent": {"classes": {}}})
    assert len(rows) == len(table.rows)
    for row, own in zip(rows, table.rows, strict=True):
        number = int(row["sample_id"])
        gold = made["gold"][row["task"]][number]
        assert row["gold"] == (gold if row["task"] == "intent" else " ".join(gold))
        assert row["tokens"] == " ".join(made["texts"][number])
        assert (float(row["loss"]), float(row["confidence"])) == (own.loss, own.confidence)
        assert row["probable_label_error"] == str(int(own.suspect))


@pytest.mark.parametrize(("gold", "predicted", "sure", "report", "shape", "pairs"), [
    ("a", "b", 0.9, {"classes": {}}, "label", [("a", "b", 0.9)]),
    ("a", "b", None, {}, "text", [(None, None, None)]),
    (["O", "B-x"], ["O", "O"], [0.9, 0.8], {}, "tags", [("B-x", "O", 0.8)]),
    (["a"], ["b"], [0.25, 0.75], {"classes": {"a": {"threshold": 0.5}, "b": {"threshold": 0.5}}}, "labels",
     [("a", None, 0.75), (None, "b", 0.75)]),
    ([{"start": 0, "end": 1, "label": "x", "words": ["w"]}], [], [], {}, "spans", [("x", None, None)]),
    ({"number": 1, "text": "t"}, {"number": 0, "text": "u"}, 0.5, {}, "choice", [(None, None, 0.5)]),
    ({"text": ["t"], "answer_start": [3]}, {"text": [], "answer_start": []}, 0.5, {}, "answer", [(None, None, 0.5)]),
    (1.5, 0.5, None, {}, "number", [(None, None, None)]),
])  # fmt: skip
def test_every_kind_of_label_is_read(tmp_path, gold, predicted, sure, report, shape, pairs):
    line = {"sample_id": 3, "text": "some words", "predictions": {"t": predicted}, "confidences": {"t": sure},
            "gold": {"t": gold}, "losses": {"t": 1.0}, "wrong": ["t"]}  # fmt: skip
    file = tmp_path / "test.jsonl"
    file.write_text(json.dumps(line) + "\n", encoding="utf-8")
    table = read_errors(file, {"t": report})
    assert [(row.shape, row.pairs) for row in table.rows] == [(shape, pairs)]
    json.dumps(page_data([table]), allow_nan=False)
    write_csv(tmp_path / "test.csv", table)


def test_ticks_are_round_and_enclose():
    assert ticks(0, 1) == [0, 0.25, 0.5, 0.75, 1]
    for low, high in ((0.013, 0.018), (-3, 1e6), (5, 5), (1e-9, 2e-9), (0.95, 0.991)):
        found = ticks(low, high)
        assert found[0] <= low + 1e-12 and found[-1] >= high - 1e-12 and 2 <= len(found) <= 8


def test_curves_leave_out_what_is_no_number():
    chart = line_chart("loss", {"a": ([1, 2, 3], [1.0, float("nan"), 2.0])}, "step")
    assert chart is not None and "nan" not in chart and chart.count("<circle") == 4
    assert line_chart("loss", {"a": ([1], [float("inf")])}, "step") is None


def test_a_loss_that_falls_far_is_drawn_by_factors():
    assert decades(0.024, 4.5) == [0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5]
    assert decades(2e-6, 3) == [1e-6, 1e-5, 1e-4, 1e-3, 0.01, 0.1, 1, 10] and decades(2, 2) == [2, 5]

    def heights(*values):
        chart = curves("loss", {"training": ([1, 2, 3], values)}, None)
        assert chart is not None
        return "logarithmic" in chart, [float(y) for y in re.findall(r'cy="([\d.]+)" r="2.2"', chart)]

    drawn, (first, second, third) = heights(10.0, 1.0, 0.1)
    assert drawn and third - second == pytest.approx(second - first, abs=0.1)
    drawn, (first, second, third) = heights(2.0, 1.0, 0.5)
    assert not drawn and third - second == pytest.approx((second - first) / 2, abs=0.1)
    assert not heights(10.0, 1.0, -0.1)[0]  # a likelihood may be below 0


def test_the_machine_and_the_check_are_shown(page):
    said = "".join(page.texts)
    for title in ("use, %", "memory, GiB", "free disk, GiB"):
        assert said.count(title) == 1
    assert "gpu0_memory_gib 3" in said and "cpu_percent 90" in said
    levels = [row[0] for table in page.tables for row in table if row and row[0] in ("ok", "note", "warning", "error")]
    assert levels == ["warning", "ok"]


def test_what_a_run_lacks_is_left_out(tmp_path, capsys):
    """Only a configuration: still a page; not even that: one line."""
    (tmp_path / "config.yaml").write_text("seed: 1\n", encoding="utf-8")
    assert command.main([str(tmp_path)]) == 0
    assert "seed: 1" in (tmp_path / "report.html").read_text(encoding="utf-8")
    assert command.main([str(tmp_path / "nothing")]) == 2
    assert "holds no run" in capsys.readouterr().err


# ---------------------------------------------------------------------------------------------------------- escaping


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    """Everything that a run takes from data tries to be markup or script; even the folder's name."""
    folder = tmp_path_factory.mktemp("hostile") / "<img src=x onerror=window.hit=1>'\"& \u202e"
    labels = [text.replace(" ", "_") for text in HOSTILE if "\ud800" not in text]
    words = " ".join(text.replace(" ", "_") for text in HOSTILE if "\ud800" not in text)
    write_run(folder, 120, 0.5, words, labels, source=HOSTILE[0], note=HOSTILE[1] + HOSTILE[0])
    lines = (folder / "errors/test.jsonl").read_text(encoding="utf-8").split("\n")[:-1]
    lone = json.loads(lines[0]) | {"tokens": "a lone \ud800 surrogate"}  # as JSON may have it, escaped
    lone["wrong"], lone["sample_id"] = ["intent"], 119_119
    (folder / "errors/test.jsonl").write_text("\n".join([*lines, json.dumps(lone)]) + "\n", encoding="utf-8")
    write_report(folder)
    return folder


def test_nothing_from_data_becomes_markup(hostile):
    content = (hostile / "report.html").read_text(encoding="utf-8")
    assert "\0" not in content
    page = Page(content)
    scripts = [attributes for tag, attributes in page.elements if tag == "script"]
    assert scripts == [{"type": "application/json", "id": "data"}, {}]
    assert not [tag for tag, _ in page.elements if tag in ("img", "iframe", "object", "base", "form-action")]
    assert not [name for _, attributes in page.elements for name in attributes if name.startswith("on")]
    links = {attributes["href"] for tag, attributes in page.elements if "href" in attributes}
    assert all(re.fullmatch(r"#[\w-]+|errors/[\w.-]+|data:,", link or "") for link in links)
    data = json.loads(page.scripts[0])
    assert {*HOSTILE} - {"\ud800"} <= {word.replace("_", " ") for record in data["records"] for word in record[2]}
    policy = next(a["content"] for tag, a in page.elements if a.get("http-equiv") == "Content-Security-Policy")
    assert policy and policy.startswith("default-src 'none'") and "unsafe" not in policy


def test_a_spreadsheet_sees_no_formula(hostile):
    content = (hostile / "errors/test.csv").read_bytes().decode("utf-8-sig")
    cells = [cell for row in csv.reader(io.StringIO(content, newline="")) for cell in row]
    assert "'=1+1" in cells
    assert not [cell for cell in cells if cell[:1] in ("=", "+", "@", "\t") or (cell[:1] == "-" and cell != "-")]


def test_elements_escape_what_is_no_element():
    assert element("p", "a<b>\"'", element("b", "&"), title='"\'<\0') == (
        "<p title=\"&quot;&#x27;&lt;\ufffd\">a&lt;b&gt;&quot;&#x27;<b>&amp;</b></p>")  # fmt: skip
    block = json_block(HOSTILE, "x")
    inner = block.removeprefix('<script type="application/json" id="x">').removesuffix("</script>")
    assert json.loads(inner) == HOSTILE and "<" not in inner and not {"\u2028", "\u2029", "\ud800", "\0"} & {*inner}


# ----------------------------------------------------------------------------------------------------------- browser


@pytest.fixture(scope="module")
def browser():
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if chromium is None:
        pytest.skip("there is no Chromium")
    with api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture(scope="module")
def open_page(browser):
    """(folder, width) -> page and what was said on its console, or requested, so far: nothing is right."""

    def opened(folder: Path, width: int = 1280) -> Any:
        said: list[str] = []
        tab = browser.new_page(viewport={"width": width, "height": 800})
        tab.on("console", lambda message: said.append(message.text))
        tab.on("pageerror", lambda error: said.append(str(error)))
        tab.on("request", lambda request: said.extend([request.url] * (not request.url.startswith("file:"))))
        tab.goto((folder / "report.html").as_uri())
        return tab, said

    return opened


@pytest.fixture(scope="module")
def run_tab(run, open_page):
    return open_page(run[0])


@pytest.fixture
def tab(run_tab):
    """The page of the run, with no filter."""
    run_tab[0].click("#clear")
    yield run_tab[0]
    assert run_tab[1] == []


def shown(tab: Any) -> int:
    """How many mistakes are left by the filters."""
    return int(re.findall(r"([\d,]+) mistakes", tab.inner_text("#count"))[0].replace(",", ""))


def column(tab: Any, name: str) -> list[str]:
    return tab.eval_on_selector_all(f"#rows .of-{name}", "cells => cells.map(cell => cell.textContent)")


def test_filters_order_and_pages(run, tab):
    made = run[1]
    gold, predicted = made["gold"]["intent"], made["predicted"]["intent"]
    total = sum(made["gold"][t][n] != made["predicted"][t][n] for t in ("intent", "slots") for n in range(300))
    assert shown(tab) == total and len(column(tab, "loss")) == 50
    tab.select_option("#task", label=f"intent ({sum(a != b for a, b in zip(gold, predicted, strict=True))})")
    tab.click("#wrong thead button[data-order=loss]")
    losses = [float(value) for value in column(tab, "loss")]
    assert losses == sorted(losses, reverse=True)
    tab.click("#wrong thead button[data-order=confidence]")
    sure = [float(value) for value in column(tab, "confidence")]
    assert sure == sorted(sure, reverse=True) and tab.get_attribute("th.of-confidence", "aria-sort") == "descending"
    count = sum(a == "play" != b for a, b in zip(gold, predicted, strict=True))
    tab.select_option("#gold", label=f"play ({count})")
    assert shown(tab) == count and {*column(tab, "gold")} == {"play"}
    tab.click("#clear")
    tab.fill("#search", "BERLIN")
    with_word = sum("berlin" in text and made["gold"][t][n] != made["predicted"][t][n]
                    for n, text in enumerate(made["texts"]) for t in ("intent", "slots"))  # fmt: skip
    tab.wait_for_selector(f"#count:has-text('of {with_word} mistakes')")
    tab.click("#clear")
    first = column(tab, "text")
    tab.click("#forth")
    assert column(tab, "text")[0] not in first and tab.input_value("#page") == "2"
    tab.click("#last")
    assert len(column(tab, "text")) == (total - 1) % 50 + 1 and tab.is_disabled("#forth")


def test_a_cell_of_the_matrix_shows_its_records(run, tab):
    made = run[1]
    pairs = list(zip(made["gold"]["intent"], made["predicted"]["intent"], strict=True))
    tab.click("button[data-gold=stop][data-predicted=play]")
    assert shown(tab) == pairs.count(("stop", "play")) and {*column(tab, "predicted")} == {"play"}


def test_gold_stands_above_and_what_was_predicted_below(run, tab):
    made = run[1]
    tab.select_option("#task", index=2)
    tab.select_option("#order", "id")
    number = next(n for n in range(300) if made["gold"]["slots"][n] != made["predicted"]["slots"][n])
    words = tab.eval_on_selector_all(
        "#rows tr:first-child .word", "words => words.map(word => [...word.children].map(part => part.textContent))"
    )
    columns = (made[key]["slots"][number] for key in ("gold", "predicted", "confidences"))
    for (above, word, below), text, gold, predicted, sure in zip(words, made["texts"][number], *columns, strict=True):
        assert word == text and above == (gold if (gold, predicted) != ("O", "O") else "")
        assert below == (f"✗ {predicted} {round(100 * round(sure, 2))}%" if gold != predicted else "")


def test_classes_are_sorted_by_a_click(tab):
    for clicks, reverse in ((1, True), (2, False)):
        tab.click("#task-0 .sortable thead th:nth-child(3) button")
        cells = "#task-0 .sortable tbody td:nth-child(3)"
        found = tab.eval_on_selector_all(cells, "all => all.map(one => one.textContent)")
        assert found == sorted(found, reverse=reverse), clicks


def test_hostile_data_is_only_text_and_a_phone_never_scrolls_sideways(hostile, tab, open_page):
    tab.set_viewport_size({"width": 390, "height": 800})
    assert tab.evaluate("document.documentElement.scrollWidth") == 390
    tab.set_viewport_size({"width": 1280, "height": 800})
    found, said = open_page(hostile, width=390)
    assert found.evaluate("document.documentElement.scrollWidth") == 390
    assert found.evaluate("window.hit") is None and found.query_selector("img, iframe") is None
    assert found.inner_text("h1").startswith("<img src=x")
    text = "".join(column(found, "text"))
    assert HOSTILE[0] in text and HOSTILE[2] in text
    assert any(HOSTILE[1].replace(" ", "_") in cell for cell in column(found, "gold") + column(found, "predicted"))
    assert said == []


@pytest.mark.slow
def test_a_hundred_thousand_records_stay_quick(tmp_path, open_page):
    """20,000 of them wrong: a page of a few megabytes, whose filters answer at once."""
    write_run(tmp_path / "out", 100_000, 0.2)
    path = write_report(tmp_path / "out")
    assert path.stat().st_size < 16e6
    tab, said = open_page(tmp_path / "out")
    assert shown(tab) > 20_000
    took = tab.evaluate("""() => {
        const begin = performance.now();
        document.querySelector("#gold").selectedIndex = 1;
        document.querySelector("#gold").dispatchEvent(new Event("input", { bubbles: true }));
        return new Promise((done) => setTimeout(() => done(performance.now() - begin), 0));
    }""")
    assert took < 2000 and said == []
