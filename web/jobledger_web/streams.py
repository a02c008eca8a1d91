"""Downloads that are written while they are read: a year's jobs never sit in memory."""

from collections.abc import Callable, Iterator

from flask import Response, stream_with_context

from jobledger_web.ledger import Ledger, ledger


def csv_response(filename: str, write: Callable[[Ledger], Iterator[str]]) -> Response:
    """A CSV download of what ``write`` yields; the books stay open until its end."""

    def body() -> Iterator[str]:
        with ledger() as books:
            yield from write(books)

    response = Response(stream_with_context(body()), content_type="text/csv; charset=utf-8")
    response.headers.set("Content-Disposition", "attachment", filename=filename)
    return response
