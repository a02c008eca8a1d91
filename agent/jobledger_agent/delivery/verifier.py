"""Comparing what Slurm says now with what the collector has: one call of Verify at a time.

The call has a channel of its own and ends with it: a comparison is rare, and an
idle channel would cost memory for the rest of the day.
"""

import logging
import queue
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

import grpc

from jobledger_agent.delivery.call import call_metadata, explain, open_channel
from jobledger_agent.errors import AgentError
from jobledger_agent.protocol import wire
from jobledger_agent.protocol.wire import Compared
from jobledger_agent.records.job import SlurmJob
from jobledger_agent.settings.config import ConfigError
from jobledger_agent.settings.sections import CollectorSection

ANSWER_S_MAX: Final = 60
"""How long one answer may take; the sums of a day of many jobs are a query of their own."""
MESSAGE_BYTES_MAX: Final = 1 << 20
"""Of one set of records; a larger one is told in two."""
NOT_TOLD: Final = 0
"""In place of a verdict, for a record that does not fit the wire."""

log = logging.getLogger(__name__)


class VerifyError(AgentError):
    """The comparison could not be made now; says why. Nothing was changed anywhere."""


class VerifyUnknown(VerifyError):
    """The collector is older than comparisons."""


class Comparison:
    """One span that is being compared. Not for several threads."""

    def __init__(self, collector: CollectorSection, agent: str) -> None:
        """Start the call. Raises ConfigError."""
        self._address = collector.address
        self._outbox: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._answers: queue.SimpleQueue[tuple[int, ...] | Compared | VerifyError] = (
            queue.SimpleQueue()
        )
        self._agent = agent
        metadata = call_metadata(collector)
        self._channel = open_channel(collector)
        verify = self._channel.stream_stream(wire.VERIFY_METHOD, _as_it_is, _as_it_is)
        self._rpc = verify(iter(self._outbox.get, None), metadata=metadata)
        threading.Thread(target=self._read, name="verify-reader", daemon=True).start()

    def begin(self, cluster: str, begin: int, end: int) -> None:
        """Say what is compared: runs that ended from ``begin`` to ``end``, both included."""
        self._outbox.put(wire.verify_span(self._agent, cluster, begin, end))

    def check(self, jobs: Sequence[SlurmJob]) -> list[int]:
        """Tell records; their verdicts in order, NOT_TOLD for one that does not fit the wire.

        Raises VerifyError.
        """
        if not jobs:
            return []
        try:
            message = wire.verify_jobs(jobs)
        except (ValueError, TypeError, OverflowError, UnicodeError):
            message = b""
        if message and len(message) <= MESSAGE_BYTES_MAX:
            return list(self._verdicts(message, len(jobs)))
        if len(jobs) == 1:
            return [NOT_TOLD]
        middle = len(jobs) // 2
        return self.check(jobs[:middle]) + self.check(jobs[middle:])

    def finish(self) -> Compared:
        """Say that all of the span was told; what the collector found. Raises VerifyError."""
        self._outbox.put(wire.verify_end())
        answer = self._answer()
        if isinstance(answer, Compared):
            return answer
        raise VerifyError(f"the collector at {self._address} answered out of turn")

    def close(self) -> None:
        """End the call, finished or not."""
        self._outbox.put(None)
        self._channel.close()

    def _verdicts(self, message: bytes, rows: int) -> tuple[int, ...]:
        self._outbox.put(message)
        answer = self._answer()
        if isinstance(answer, Compared) or len(answer) != rows:
            raise VerifyError(f"the collector at {self._address} did not answer for each record")
        return answer

    def _answer(self) -> tuple[int, ...] | Compared:
        try:
            answer = self._answers.get(timeout=ANSWER_S_MAX)
        except queue.Empty as error:
            raise VerifyError(
                f"the collector at {self._address} did not answer for {ANSWER_S_MAX} s"
            ) from error
        if isinstance(answer, VerifyError):
            raise answer
        return answer

    def _read(self) -> None:
        end = VerifyError(f"the collector at {self._address} ended the comparison")
        try:
            for message in self._rpc:
                self._answers.put(wire.verified(message))
        except wire.BadAnswer as error:
            end = VerifyError(str(error))
        except grpc.RpcError:
            code = self._rpc.code()
            kind = VerifyUnknown if code is grpc.StatusCode.UNIMPLEMENTED else VerifyError
            end = kind(explain(code, self._rpc.details(), self._address))
        self._answers.put(end)


class Verifier:
    """Begins comparisons with one collector."""

    def __init__(self, collector: CollectorSection, agent: str) -> None:
        self._collector = collector
        self._agent = agent

    @contextmanager
    def comparing(self, cluster: str, begin: int, end: int) -> Iterator[Comparison]:
        """Compare one span of a cluster (epoch s, both ends included). Raises VerifyError."""
        try:
            comparison = Comparison(self._collector, self._agent)
        except ConfigError as error:
            # A certificate that is being replaced may be half there: try again later.
            raise VerifyError(str(error)) from error
        try:
            comparison.begin(cluster, begin, end)
            yield comparison
        finally:
            comparison.close()


def _as_it_is(message: bytes) -> bytes:
    return message
