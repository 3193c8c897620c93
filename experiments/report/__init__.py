"""A finished run as one page: scores, curves, classes, confusions, calibration, wrong records, time, configuration.

    python -m experiments.report output/run            # report.html in there, and errors/*.csv; main.py does it, too

The page is one file that loads nothing: it can be sent, archived, and read on a phone. What comes from data never
becomes markup or script: markup.py escapes, the wrong records are JSON that page.js shows as text, and the page's own
Content-Security-Policy lets no other script run. Nothing but the standard library and PyYAML is imported.
"""

from .page import write_report

__all__ = ["write_report"]
