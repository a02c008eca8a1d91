"""Documents to draw, and how the tests read them back from the PDF."""

import copy
import io
import json
from pathlib import Path
from typing import Any

from pypdf import PdfReader

Json = dict[str, Any]

EXAMPLE = Path(__file__).parents[1] / "data" / "document-example.json"


def example_document() -> Json:
    """The published example of a document: one fresh copy."""
    document: Json = json.loads(EXAMPLE.read_text(encoding="utf-8"))
    return document


def read(pdf: bytes) -> PdfReader:
    """A PDF as its readers see it."""
    return PdfReader(io.BytesIO(pdf))


def text_of(pdf: bytes) -> str:
    """All text of a PDF, with every stretch of white space as one space."""
    return " ".join(" ".join(page.extract_text() for page in read(pdf).pages).split())


def money(minor: int) -> str:
    """Minor units of two decimals as a decimal string."""
    return f"{'-' if minor < 0 else ''}{abs(minor) // 100}.{abs(minor) % 100:02d}"


def a_document(example: Json, *, lines: int, jobs: int, prior: int = 0) -> Json:
    """The example with that many lines, the last ``prior`` of an earlier period, and jobs."""
    document = copy.deepcopy(example)
    models = document["lines"]
    document["lines"] = [
        copy.deepcopy(models[i % 4])
        | {
            "line": i + 1,
            "quantity": f"{(i * 7919) % 99991}.{i % 9}",
            "list_amount": money(i * 100_003),
            "discount": money(i * 50_001),
            "net": money(i * 50_002),
            "prior_period": i >= lines - prior,
        }
        for i in range(lines)
    ]
    subtotal = sum(i * 50_002 for i in range(lines))
    document["totals"] = {
        "list_amount": money(sum(i * 100_003 for i in range(lines))),
        "discount": money(sum(i * 50_001 for i in range(lines))),
        "subtotal": money(subtotal),
        "tax": "0.00",
        "total": money(subtotal),
    }
    document["tax"] |= {"rate_percent": "0", "base": money(subtotal), "amount": "0.00"}
    model = document["annex"]["jobs"][0]
    document["annex"] = {
        "jobs": [model | {"job_id": 1000 + i, "cost": "1.00"} for i in range(jobs)],
        "jobs_total": jobs + 3,
        "others_jobs": 3,
        "others_cost": money(subtotal - 100 * jobs),
    }
    return document
