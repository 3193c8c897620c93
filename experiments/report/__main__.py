"""python -m experiments.report output/run [output/other …]"""

import argparse
import sys
from pathlib import Path

from . import write_report


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="experiments.report", description="Write report.html into run folders.")
    parser.add_argument("folders", nargs="+", type=Path, help="output folders of main.py")
    folders = parser.parse_args(argv).folders
    for folder in folders:
        if not (folder / "config.yaml").is_file() and not any(folder.glob("*_metrics.json")):
            print(f"error: {folder}: holds no run of main.py: no config.yaml, no scores", file=sys.stderr)
            return 2
    for folder in folders:
        print(write_report(folder))
    return 0


if __name__ == "__main__":
    sys.exit(main())
