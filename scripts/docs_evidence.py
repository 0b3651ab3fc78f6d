"""Take the last reports of `make contract` and `make mutants` into docs/evidence/, and with UPSTREAM a new drift table.

Usage: python -m scripts.docs_evidence [UPSTREAM]
"""

from __future__ import annotations

import datetime
import json
import sys
from pathlib import Path
from typing import Any

from mixpeek_batches import __version__
from scripts.compare import CompareError, version
from scripts.drift import as_markdown, findings, read

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "docs" / "evidence"


def record(name: str, command: str, report: Any) -> None:
    """Keep a report, with the day and the command that made it."""
    day = datetime.datetime.now(datetime.UTC).date().isoformat()
    FOLDER.mkdir(parents=True, exist_ok=True)
    kept = {"command": command, "day": day, "version": __version__, "report": report}
    (FOLDER / f"{name}.json").write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"Written: docs/evidence/{name}.json")


def main() -> int:
    """Run the command."""
    reports = ROOT / "contract-report"
    record("contract", "make contract", json.loads((reports / "report.json").read_text(encoding="utf-8")))
    found = json.loads((reports / "mutants.json").read_text(encoding="utf-8"))
    rows = [{name: row[name] for name in ("mutant", "caught_by", "after")} for row in found]
    record("mutants", "make mutants", sorted(rows, key=lambda row: str(row["mutant"])))
    if len(sys.argv) > 1:
        upstream = sys.argv[1]
        try:
            ours, theirs = read(str(ROOT / "openapi.yaml")), read(upstream)
            table = as_markdown(findings(ours, theirs), version(theirs), version(ours))
        except CompareError as error:
            print(error, file=sys.stderr)
            return 2
        shown = upstream if "://" in upstream else Path(upstream).name
        record("drift", f"make drift UPSTREAM={shown}", table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
