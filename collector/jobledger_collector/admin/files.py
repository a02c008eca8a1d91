"""Reading a document that a person named, with a sentence for whatever is wrong."""

from pathlib import Path
from typing import Final

from jobledger_collector.admin.outcome import BadInput

MAX_DOCUMENT_BYTES: Final = 4 * 1024 * 1024


def read_document(path: Path) -> str:
    """Return a file's text; raises BadInput."""
    try:
        with path.open("rb") as stream:
            content = stream.read(MAX_DOCUMENT_BYTES + 1)
    except OSError as error:
        raise BadInput(f"Cannot read {path}: {error.strerror}; check the path") from error
    if len(content) > MAX_DOCUMENT_BYTES:
        limit = MAX_DOCUMENT_BYTES
        raise BadInput(f"{path} is larger than {limit} bytes; is it the right file?")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        message = f"{path} is not UTF-8 text (byte {error.start}); is it the right file?"
        raise BadInput(message) from error
