"""Downloads that are written while they are read: a year's jobs never sit in memory."""

from collections.abc import Callable, Iterator

from flask import Response

from jobledger_web.database import reading_later
from jobledger_web.ledger import Ledger
from jobledger_web.sessions import viewer


def csv_response(filename: str, write: Callable[[Ledger], Iterator[str]]) -> Response:
    """A CSV download of what ``write`` yields; the books stay open until its end.

    The body is written after the request's own context is gone, so all that it
    needs is taken along now: who reads, and where the books are.
    """
    reader, reading = viewer(), reading_later()

    def body() -> Iterator[str]:
        with reading() as conn:
            yield from write(Ledger(conn, reader))

    response = Response(body(), content_type="text/csv; charset=utf-8")
    response.headers.set("Content-Disposition", "attachment", filename=filename)
    return response
