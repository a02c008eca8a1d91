"""PDFs for the web: drawn few at a time, and kept for a while since they never change."""

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Final, Literal, cast

from flask import abort

from jobledger_collector.pdf import render_pdf
from jobledger_collector.store.invoices import Invoice

if TYPE_CHECKING:
    from collections.abc import Mapping

DRAWN_AT_ONCE: Final = 2
WAIT_S: Final = 45
KEPT_BYTES: Final = 32 * 1024 * 1024

_drawing = threading.BoundedSemaphore(DRAWN_AT_ONCE)
_lock = threading.Lock()
_kept: OrderedDict[tuple[str, str], bytes] = OrderedDict()


def draw(invoice: Invoice, language: Literal["en", "th"]) -> bytes:
    """The PDF of an issued invoice. Answers 503 when too many are being drawn.

    Raises RenderFailed.
    """
    key = (invoice.row.document_sha256, language)
    with _lock:
        if key in _kept:
            _kept.move_to_end(key)
            return _kept[key]
    if not _drawing.acquire(timeout=WAIT_S):
        abort(503)
    try:
        body = render_pdf(cast("Mapping[str, object]", invoice.document), language)
    finally:
        _drawing.release()
    _keep(key, body)
    return body


def _keep(key: tuple[str, str], body: bytes) -> None:
    with _lock:
        _kept[key] = body
        while len(_kept) > 1 and sum(map(len, _kept.values())) > KEPT_BYTES:
            _kept.popitem(last=False)
