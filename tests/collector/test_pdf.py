"""The parent of the PDF: a child that is warm, bounded, knows no secret and may die."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from jobledger_collector import pdf
from jobledger_collector.pdf import Renderer, RenderFailed, render_many, render_pdf

Json = dict[str, Any]

EXAMPLE = Path(__file__).parents[1] / "data" / "document-example.json"


@pytest.fixture
def example() -> Json:
    document: Json = json.loads(EXAMPLE.read_text(encoding="utf-8"))
    return document


@pytest.fixture(scope="module")
def renderer() -> Iterator[Renderer]:
    """One warm child for the tests that do not harm it."""
    with Renderer() as warm:
        yield warm


def child_of(renderer: Renderer) -> subprocess.Popen[bytes]:
    """The process behind a renderer that has drawn something."""
    child = renderer._child  # noqa: SLF001 - the process is what these tests are about
    assert child is not None
    return child._process  # noqa: SLF001


def scratch_of(process: subprocess.Popen[bytes]) -> Path:
    return Path(environment_of(process)["TMPDIR"])


def environment_of(process: subprocess.Popen[bytes]) -> dict[str, str]:
    entries = Path(f"/proc/{process.pid}/environ").read_text(encoding="utf-8").split("\0")
    return dict(entry.split("=", 1) for entry in entries if entry)


def test_one_document_is_the_same_as_the_program_draws_by_hand(example: Json) -> None:
    by_hand = subprocess.run(
        [sys.executable, "-m", pdf.MODULE, "--lang", "th"],
        input=json.dumps(example).encode(),
        capture_output=True,
        check=True,
    )
    drawn = render_pdf(example, "th")
    assert drawn.startswith(b"%PDF-1.7")
    assert drawn == by_hand.stdout


def test_many_documents_come_in_the_order_asked(example: Json) -> None:
    other = example | {"number": "INV-2026-000018"}
    drawn = list(render_many([(example, "en"), (other, "en"), (example, "th"), (example, "en")]))
    assert len(set(drawn)) == 3
    assert drawn[0] == drawn[3]


def test_a_refused_document_does_not_harm_the_next(renderer: Renderer, example: Json) -> None:
    wrong = example | {"totals": example["totals"] | {"total": "0.01"}}
    with pytest.raises(RenderFailed, match="INV-2026-000017 does not add up: the total"):
        renderer.render(wrong, "en")
    process = child_of(renderer)
    assert renderer.render(example, "en").startswith(b"%PDF")
    assert child_of(renderer) is process


def test_many_ends_at_the_first_that_fails(example: Json) -> None:
    drawn = render_many([(example, "en"), ({}, "en"), (example, "en")])
    assert next(drawn).startswith(b"%PDF")
    with pytest.raises(RenderFailed, match="schema"):
        next(drawn)
    assert list(drawn) == []


def test_an_unknown_language_is_refused(renderer: Renderer, example: Json) -> None:
    with pytest.raises(RenderFailed, match="choose en or th"):
        renderer.render(example, "de")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("document", "why"),
    [
        ({"number": float("nan")}, "not JSON"),
        ({"number": b"bytes"}, "not JSON"),
        ({"number": {1, 2}}, "not JSON"),
        ({"number": "x" * pdf.DOCUMENT_MAX_BYTES}, "Use the CSV"),
    ],
)
def test_what_cannot_be_sent_is_refused_before_a_child_starts(document: Json, why: str) -> None:
    with Renderer() as idle, pytest.raises(RenderFailed, match=why):
        idle.render(document, "en")


def test_the_largest_document_reaches_the_child(renderer: Renderer) -> None:
    room = pdf.DOCUMENT_MAX_BYTES - len(b'{"language": "en", "document": {"schema": ""}}')
    with pytest.raises(RenderFailed, match="schema"):
        renderer.render({"schema": "x" * room}, "en")


def test_the_child_knows_nothing_of_its_parents_secrets(
    monkeypatch: pytest.MonkeyPatch, example: Json
) -> None:
    monkeypatch.setenv("JOBLEDGER_DB_PASSWORD", "s3cret")
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    with Renderer() as fresh:
        fresh.render(example, "en")
        known = environment_of(child_of(fresh))
        assert set(known) <= {
            "PATH", "LD_LIBRARY_PATH", "HOME", "TMPDIR", "LC_ALL",
            "PYTHONHASHSEED", "PYTHONDONTWRITEBYTECODE", "PYTHONUTF8",
        }  # fmt: skip
        assert "s3cret" not in known.values()
        assert Path(f"/proc/{child_of(fresh).pid}/cwd").resolve() == scratch_of(child_of(fresh))


def test_the_child_is_bounded(renderer: Renderer, example: Json) -> None:
    renderer.render(example, "en")
    limits = Path(f"/proc/{child_of(renderer).pid}/limits").read_text(encoding="utf-8")
    bounds = {line[:26].strip(): line[26:].split() for line in limits.splitlines()}
    assert bounds["Max address space"][:2] == [str(2 * 1024**3)] * 2
    assert bounds["Max open files"][:2] == ["64", "64"]
    assert bounds["Max core file size"][:2] == ["0", "0"]
    assert 60 <= int(bounds["Max cpu time"][0]) < 180


def test_a_killed_child_is_replaced_and_leaves_nothing_behind(example: Json) -> None:
    with Renderer() as mortal:
        expected = mortal.render(example, "en")
        process = child_of(mortal)
        scratch = scratch_of(process)
        assert scratch.is_dir()
        process.send_signal(signal.SIGKILL)
        process.wait()
        with pytest.raises(RenderFailed, match="ended with status -9"):
            mortal.render(example, "en")
        assert not scratch.exists()
        assert mortal.render(example, "en") == expected
        last = scratch_of(child_of(mortal))
    assert not last.exists()


def test_a_document_that_takes_too_long_is_given_up(
    monkeypatch: pytest.MonkeyPatch, example: Json
) -> None:
    monkeypatch.setattr(pdf, "TIMEOUT_S", 0.01)
    with Renderer() as slow, pytest.raises(RenderFailed, match=r"not drawn within 0\.01 s"):
        slow.render(example, "en")


def test_an_answer_that_is_too_long_is_not_taken(
    monkeypatch: pytest.MonkeyPatch, example: Json
) -> None:
    monkeypatch.setattr(pdf, "PDF_MAX_BYTES", 1000)
    with Renderer() as small, pytest.raises(RenderFailed, match="more than 1000"):
        small.render(example, "en")


def test_a_child_is_replaced_before_it_grows_old(
    monkeypatch: pytest.MonkeyPatch, example: Json
) -> None:
    monkeypatch.setattr(pdf, "DOCUMENTS_PER_CHILD_MAX", 2)
    with Renderer() as long_lived:
        first = long_lived.render(example, "en")
        process = child_of(long_lived)
        assert long_lived.render(example, "en") == first
        assert process.poll() is not None
        assert long_lived.render(example, "en") == first


def test_no_more_children_than_the_machine_was_promised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pdf, "TIMEOUT_S", 0.05)
    monkeypatch.setattr(pdf, "_places", threading.BoundedSemaphore(pdf.CHILDREN_MAX))
    with Renderer(), Renderer(), pytest.raises(RenderFailed, match="2 others are being drawn"):
        Renderer().__enter__()
    with Renderer(), Renderer():
        pass  # both places came back


def test_without_the_web_part_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, example: Json
) -> None:
    monkeypatch.setattr(pdf, "MODULE", "jobledger_web.not_installed")
    with pytest.raises(RenderFailed, match=r"jobledger\[web\]"):
        render_pdf(example, "en")
