"""Report how the vendor's OpenAPI document differs from openapi.yaml, and what that means for our users.

Usage: python -m scripts.drift [UPSTREAM] [--json | --markdown] [--spec FILE]

UPSTREAM is a file or a URL; without it, the setting `upstream` under `[tool.drift]` in pyproject.toml. Exit code 0: no
difference; 1: differences; 2: the documents could not be compared, with the reason in one sentence.
"""

from __future__ import annotations

import argparse
import json
import sys
import tomllib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import httpx
from rich.console import Console
from rich.markdown import Markdown

from scripts.compare import CompareError, SpecDifference, compare, parse, shown, version

ROOT = Path(__file__).resolve().parent.parent
Meaning = Literal["breaks the client", "breaks the contract", "new", "gone"]

MEANINGS: dict[Meaning, str] = {  # the worst first
    "breaks the client": "calls of the published client fail, or lose what was sent",
    "breaks the contract": "a response that they now allow fails a clause of the contract tests",
    "new": "they offer what the contract does not",
    "gone": "the contract has what they no longer offer",
}
# All that the client needs of a task; whatever else is in it may be missing or of another type.
_NEEDED = {"body", "task_id", "task_type", "status"}
_DEMANDED = {"status": ("CANCELED", "task-canceled"), "task_type": ("api_buckets_batches_process", "task-type")}
_HEADERS = {"header WWW-Authenticate": "www-authenticate", "header Retry-After": "retry-after"}


@dataclass(frozen=True)
class Drift:
    """A difference, where it is found, and what it means.

    Attributes:
        difference: The difference, in the first of the places.
        codes: The status codes of the responses that share it.
        meaning: What it means to our users.
        clause: The clause of the contract tests that no longer holds, if there is one.
    """

    difference: SpecDifference
    codes: tuple[str, ...]
    meaning: Meaning
    clause: str | None

    @property
    def place(self) -> str:
        """Where, without the operation."""
        return " ".join(part for part in (", ".join(self.codes), self.difference.place) if part) or "the operation"

    @property
    def sides(self) -> tuple[str, str]:
        """Theirs and ours, in words."""
        return self._described(self.difference.theirs), self._described(self.difference.ours)

    def _described(self, side: Any) -> str:
        aspect = self.difference.aspect
        if side is None:
            return "-"
        if aspect == "value":
            return f"{len(side)} {self.difference.kind}: {shown(side)}"
        if aspect == "status code":
            return "documented"
        if aspect in {"null", "type", "property", "values", "required", "operation", "header"}:
            return shown(side)
        return f"{aspect}: {shown(side)}"


def judge(difference: SpecDifference) -> tuple[Meaning, str | None]:
    """Return what a difference means to our users, and which clause of the contract it breaks, if any."""
    return _judge_response(difference) if difference.code else _judge_request(difference)


def _judge_request(difference: SpecDifference) -> tuple[Meaning, str | None]:
    is_namespace = difference.place == "header X-Namespace"
    match difference.aspect, difference.kind:
        case "operation" | "authentication", _:
            return "breaks the client", "cancel"
        case "deprecated", _:
            return ("gone" if difference.theirs else "new"), None
        case "required", "narrowed" if is_namespace:
            return "breaks the client", "default-namespace"
        case "parameter", "added":
            return ("breaks the client", "cancel") if "required" in difference.theirs else ("new", None)
        case "parameter", _:
            return ("breaks the contract", "unknown-namespace") if is_namespace else ("gone", None)
        case _, "narrowed" | "changed" | "removed":
            return "breaks the contract", "generated-positive-data-acceptance"
    return "new", None


def _judge_response(difference: SpecDifference) -> tuple[Meaning, str | None]:
    place, is_task = difference.place, difference.code.startswith("2")
    clause = "task-schema" if is_task else "error-envelope"
    match difference.aspect, difference.kind:
        case "status code", "removed":
            return "gone", None
        case "status code", _:
            return ("breaks the client" if is_task else "breaks the contract"), "documented-status"
        case "media type", _:
            return "breaks the contract", "content-type"
        case _, "added" | "removed" | "narrowed" as kind if place.startswith("header "):
            return ("new" if kind == "added" else "gone"), None
        case _ if place.startswith("header "):
            return "breaks the contract", _HEADERS.get(place, "generated-response-headers-conformance")
        case "property", "added":
            return "new", None
        case "property", "removed" if is_task and place == "error_message":
            return "breaks the contract", "error-message-due"
        case "value", "removed":
            value, broken = _DEMANDED.get(place, (None, None))
            return ("breaks the contract", broken) if is_task and value in difference.ours else ("gone", None)
        case _, "narrowed":
            return "gone", None
        case "property", "removed" if "required" not in difference.ours:
            return "gone", None
        case "null" | "type" | "property" | "required", _ if is_task and place in _NEEDED:
            return "breaks the client", clause
    return "breaks the contract", clause


def findings(ours: dict[str, Any], theirs: dict[str, Any]) -> list[Drift]:
    """Compare two documents and judge what differs: the worst first, and what several responses share only once."""
    groups: dict[tuple[Any, ...], list[SpecDifference]] = {}
    for difference in compare(ours, theirs):
        sides = json.dumps([difference.ours, difference.theirs] if difference.aspect != "status code" else "")
        key = (difference.operation, difference.place, difference.aspect, difference.kind, sides, judge(difference))
        groups.setdefault(key, []).append(difference)
    found = [
        Drift(group[0], tuple(difference.code for difference in group if difference.code), *judge(group[0]))
        for group in groups.values()
    ]
    return sorted(found, key=lambda finding: list(MEANINGS).index(finding.meaning))


def read(source: str) -> dict[str, Any]:
    """Read an OpenAPI document from a file or a URL.

    Raises:
        CompareError: If it cannot be read, or is not an OpenAPI document.
    """
    try:
        if not source.startswith(("http://", "https://")):
            return parse(Path(source).read_text(encoding="utf-8"), source)
        response = httpx.get(source, timeout=60, follow_redirects=True)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise CompareError(f"{source} cannot be reached: {error}.") from None
    except OSError as error:
        raise CompareError(f"{source} cannot be read: {error.strerror or error}.") from None
    except ValueError:
        raise CompareError(f"{source} is not UTF-8 text.") from None
    if response.status_code != 200:
        raise CompareError(f"{source} returned status {response.status_code}.")
    return parse(response.text, source)


def summary(found: list[Drift], theirs: str, ours: str) -> str:
    """Return in one sentence how much differs."""
    counts = Counter(finding.meaning for finding in found)
    parts = ", ".join(f"{counts[meaning]} {meaning}" for meaning in MEANINGS if counts[meaning])
    text = f"{len(found)} differences: {parts}" if found else "no difference"
    return f"Upstream {theirs} against our {ours}: {text}."


def as_json(found: list[Drift], upstream: str, theirs: str, ours: str) -> str:
    """Write what was found as JSON."""
    rows = [
        {
            "operation": finding.difference.operation,
            "place": finding.place,
            "codes": list(finding.codes),
            "aspect": finding.difference.aspect,
            "kind": finding.difference.kind,
            "theirs": finding.difference.theirs,
            "ours": finding.difference.ours,
            "meaning": finding.meaning,
            "clause": finding.clause,
        }
        for finding in found
    ]
    head = {"upstream": upstream, "version": theirs, "contract_version": ours}
    return json.dumps({**head, "differences": rows}, indent=2, ensure_ascii=False, default=str)


def as_markdown(found: list[Drift], theirs: str, ours: str) -> str:
    """Write what was found as Markdown, a table for each operation."""
    lines = [summary(found, _cell(theirs), ours), ""]
    for operation in dict.fromkeys(finding.difference.operation for finding in found):
        lines += [f"`{operation}`", "", "| place | theirs | ours | meaning | clause |", "|---|---|---|---|---|"]
        for finding in (one for one in found if one.difference.operation == operation):
            cells = (finding.place, *finding.sides, finding.meaning, finding.clause or "-")
            lines.append("| " + " | ".join(map(_cell, cells)) + " |")
        lines.append("")
    used = {finding.meaning for finding in found}
    lines += [f"- **{meaning}**: {text}" for meaning, text in MEANINGS.items() if meaning in used]
    return "\n".join(lines).rstrip()


def _cell(text: str) -> str:
    """Escape text from another party's document, so that Markdown, and a terminal, take it literally."""
    text = "".join(character if character.isprintable() else "?" for character in " ".join(text.split()))
    return "".join(f"\\{character}" if character in "\\`*_[]<>|#@~&" else character for character in text)


def main() -> int:
    """Run the command."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        default = tomllib.load(file)["tool"]["drift"]["upstream"]
    parser = argparse.ArgumentParser(description="Report how the vendor's OpenAPI document differs.")
    parser.add_argument("upstream", nargs="?", default=default, help=f"a file or a URL (default: {default})")
    parser.add_argument("--spec", default=str(ROOT / "openapi.yaml"), help="our document")
    output = parser.add_mutually_exclusive_group()
    output.add_argument("--json", action="store_true", help="write JSON")
    output.add_argument("--markdown", action="store_true", help="write Markdown, for an issue")
    options = parser.parse_args()
    try:
        ours, theirs = read(options.spec), read(options.upstream)
        found = findings(ours, theirs)
    except CompareError as error:
        print(error, file=sys.stderr)
        return 2
    names = version(theirs), version(ours)
    if options.json:
        print(as_json(found, options.upstream, *names))
    elif options.markdown:
        print(as_markdown(found, *names))
    else:
        width = None if sys.stdout.isatty() else 140
        Console(width=width, highlight=False).print(Markdown(as_markdown(found, *names)))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
