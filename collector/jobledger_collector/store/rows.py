"""Rows of the large tables, typed: what goes in, and what comes out again."""

import json
from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Any, Final, NamedTuple

from jobledger_collector.core.carried import unpack
from jobledger_collector.core.charge import Charge, Price
from jobledger_collector.core.record import (
    NO_USAGE,
    JobRecord,
    RunKey,
    Usage,
    tres_of,
    tres_text,
)
from jobledger_collector.core.revise import History, settle

CONTENT_COLUMNS: Final = JobRecord._fields[:-1]
"""Columns of ``job_runs`` that hold what Slurm said; their order is the digest's."""
DERIVED_COLUMNS: Final = (
    "observed", "revision", "digest", "elapsed_s", "cpu_s", "gpu_s", "mem_mib_s", "node_s",
    "carried", "flags", "billing_account", "period",
)  # fmt: skip
RUN_COLUMNS: Final = CONTENT_COLUMNS + DERIVED_COLUMNS
KEY_COLUMNS: Final = ("cluster", "job_id", "submit")
CHARGE_COLUMNS: Final = (
    "cluster", "job_id", "submit", "item", "segment", "superseded_by", "kind", "revision",
    "segment_start", "price_id", "base_units", "quantity_micro", "billing_account", "period",
)  # fmt: skip
"""Columns of ``charges`` in the order of ChargeRow; ``invoice_id`` is set later."""
REVISION_COLUMNS: Final = ("cluster", "job_id", "submit", "revision", "record", "replaced_at")
USAGE: Final = 1
REVERSAL: Final = -1
"""Kinds of charges."""

PriceId = Callable[[Price | None], int]
"""Gives the id of a price that was interned before; NO_PRICE for None."""


class RunRow(NamedTuple):
    """A row for ``job_runs``, with what the run owes. ``content`` is ``content_text``."""

    record: JobRecord
    content: str
    digest: str
    revision: int
    usage: Usage
    carried: str
    flags: str
    billing_account: str
    period: int
    charges: tuple[Charge, ...]

    def values(self) -> tuple[Any, ...]:
        """Return the values of RUN_COLUMNS as the drivers take them."""
        record, usage = self.record, self.usage
        return (
            *record_values(record),
            record.observed,
            self.revision,
            self.digest,
            *usage[1:6],
            self.carried,
            self.flags,
            self.billing_account,
            self.period,
        )


class ChargeRow(NamedTuple):
    """A row for ``charges``, in CHARGE_COLUMNS."""

    cluster: str
    job_id: int
    submit: int
    item: str
    segment: int
    superseded_by: int
    kind: int
    revision: int
    segment_start: int
    price_id: int
    base_units: int
    quantity_micro: int
    billing_account: str
    period: int

    @property
    def key(self) -> RunKey:
        """The run that owes it."""
        return RunKey(self.cluster, self.job_id, self.submit)


class StandingCharge(NamedTuple):
    """A usage charge that stands, and the invoice that it is on."""

    row: ChargeRow
    invoice_id: int | None


class StoredRun(NamedTuple):
    """A run as it is stored; ``record`` carries the attribution that is charged."""

    record: JobRecord
    revision: int
    digest: str
    usage: Usage
    carried: str
    flags: tuple[str, ...]
    billing_account: str
    period: int

    @property
    def key(self) -> RunKey:
        """The run's identity."""
        return self.record.key

    def history(self) -> History:
        """Return all that is remembered of it."""
        return unpack(self.record, self.digest, self.carried)


_ALLOC: Final = CONTENT_COLUMNS.index("alloc_tres")
_REQ: Final = CONTENT_COLUMNS.index("req_tres")
_SLUID: Final = CONTENT_COLUMNS.index("sluid")
_CONTENT: Final = len(CONTENT_COLUMNS)
_derived = itemgetter(*range(_CONTENT, len(RUN_COLUMNS)))


def record_values(record: JobRecord) -> tuple[Any, ...]:
    """Return a record's content as column values: TRES and the 64-bit SLUID as text."""
    values: list[Any] = list(record[:-1])
    values[_ALLOC] = tres_text(record.alloc_tres)
    values[_REQ] = tres_text(record.req_tres)
    values[_SLUID] = str(record.sluid)
    return tuple(values)


def stored_run(row: Sequence[Any]) -> StoredRun:
    """Return the run of a row of RUN_COLUMNS. Usage is computed again, never trusted."""
    values = list(row[:_CONTENT])
    values[_ALLOC] = tres_of(values[_ALLOC])
    values[_REQ] = tres_of(values[_REQ])
    values[_SLUID] = int(values[_SLUID])
    observed, revision, digest, *_, carried, flags, account, period = _derived(row)
    record = JobRecord._make((*values, observed))
    usage = settle(unpack(record, digest, carried)).usage if record.end else NO_USAGE
    names = tuple(flags.split(",")) if flags else ()
    return StoredRun(record, revision, digest, usage, carried, names, account, period)


def row_json(row: RunRow) -> str:
    """Return a run's row for the table of revisions: to read it needs no code of ours."""
    usage = row.usage
    fields: dict[str, Any] = dict(zip(CONTENT_COLUMNS, record_values(row.record), strict=True))
    fields |= {
        "observed": row.record.observed,
        "digest": row.digest,
        **dict(zip(Usage._fields[1:6], usage[1:6], strict=True)),
        "flags": row.flags,
        "billing_account": row.billing_account,
        "period": row.period,
    }
    return json.dumps(fields, ensure_ascii=False, separators=(",", ":"))
