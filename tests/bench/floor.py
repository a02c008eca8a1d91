"""The floor: the same rows by plain COPY into a table with the same key."""

import io
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import psycopg2

from tests.system.bulk import COLUMNS, DELIMITER

ROWS_PER_COMMIT = 2_000
INTEGERS = frozenset(
    {
        "JobIDRaw", "Submit", "Eligible", "Start", "End", "ElapsedRaw", "AllocCPUS", "NNodes",
        "UID", "AssocID", "DBIndex", "TimelimitRaw",
    }
)  # fmt: skip


def copy_rows(url: str, dump: Path) -> None:
    """COPY every row of the dump, a commit each ROWS_PER_COMMIT."""
    columns = ", ".join(
        f'"{name}" {"bigint" if name in INTEGERS else "text"} NOT NULL' for name in COLUMNS
    )
    connection = psycopg2.connect(url.replace("postgresql+psycopg2://", "postgresql://"))
    with connection.cursor() as cursor:
        cursor.execute(
            f'CREATE TABLE floor ({columns}, PRIMARY KEY ("Cluster", "JobIDRaw", "Submit"))'
        )
        connection.commit()
        for block in blocks(dump):
            cursor.copy_expert("COPY floor FROM STDIN", io.StringIO(block))
            connection.commit()
    connection.close()


def blocks(dump: Path) -> Iterator[str]:
    """Yield the dump's rows as COPY text, ROWS_PER_COMMIT at a time."""
    with dump.open(encoding="utf-8") as lines:
        next(lines)
        while rows := "".join(islice(lines, ROWS_PER_COMMIT)):
            yield rows.replace(DELIMITER, "\t")
