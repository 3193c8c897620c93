"""report.html of a run folder.

    write_report("output/run")

The sections from top to bottom; what a run does not have is left out.
"""

import base64
import hashlib
from collections.abc import Sequence
from pathlib import Path
from string import Template

from .collect import collect
from .errors import page_data, read_errors, write_csv
from .header import header
from .markup import Markup, Section, element, joined, json_block, text
from .results import results
from .surroundings import about, check, machine, time
from .tasks import tasks
from .wrong_records import errors

HERE = Path(__file__).parent


def write_report(folder: str | Path) -> Path:
    """report.html in a run folder, and a CSV file beside each file of wrong records."""
    run = collect(folder)
    tables = []
    for path in run.errors:
        tables.append(read_errors(path, run.reports.get(path.stem.split("-")[0], {})))
        write_csv(path.with_suffix(".csv"), tables[-1])
    sections = [section for section in (results(run), *tasks(run, tables), errors(tables), time(run),
                                        machine(run), check(run), about(run)) if section]  # fmt: skip
    path = run.folder / "report.html"
    content = page(run.name, header(run), sections, json_block(page_data(tables), "data"))
    if not path.exists() or path.read_text(encoding="utf-8") != content:
        unfinished = path.with_name(f".{path.name}.tmp")
        unfinished.write_text(content, encoding="utf-8", newline="\n")
        unfinished.replace(path)
    return path


def page(title: str, head: Markup, sections: Sequence[Section], data: Markup) -> str:
    """A whole document, without anything outside of it. Only its own style and script may have an effect."""
    style, script = ((HERE / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    policy = f"default-src 'none'; img-src data:; style-src {hashed(style)}; script-src {hashed(script)}; "
    links = [element("a", name, href=f"#{identity}") for identity, name, _ in sections]
    body = [element("section", element("h2", name), content, id=identity) for identity, name, content in sections]
    return Template((HERE / "page.html").read_text(encoding="utf-8")).substitute(
        title=text(title), policy=f"{policy}base-uri 'none'; form-action 'none'", style=style,
        header=head, links=joined(links), body=joined(body), data=data, script=script,
        footer=element("p", "One file; it loads nothing. Written by ", element("code", "experiments.report"), "."),
    )  # fmt: skip


def hashed(content: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(content.encode('utf-8')).digest()).decode()}'"
