"""One agent's stream: read ahead, store in order, acknowledge what is durable.

A thread of its own decodes and prices the next batch while the database works
on the one before; the queue between them is short, so a slow database holds
the agent back and memory stays bounded.
"""

import logging
import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

from jobledger_collector import clock
from jobledger_collector.core.reporter import Health
from jobledger_collector.ingest import Ingest, Prepared
from jobledger_collector.metrics import Metrics
from jobledger_collector.store import agents
from jobledger_collector.store.engine import transaction
from jobledger_collector.wire import Decoded, encode_ack, read_request

READ_AHEAD_BATCHES: Final = 4
POLL_S: Final = 0.25
"""How soon a stream notices that it must stop."""

log = logging.getLogger(__name__)


class Done(Exception):
    """The agent has ended its stream in order."""


Item = Prepared | Health | Exception
"""What the reader hands on; an exception, Done among them, is the last."""


class Stopping(Exception):
    """The collector is stopping: what is not acknowledged will be sent again."""


class Stream:
    """Reads an agent's requests ahead and applies them one after the other."""

    def __init__(
        self,
        ingest: Ingest,
        requests: Iterable[Any],
        metrics: Metrics,
        stay: Callable[[], None],
    ) -> None:
        """Take over the requests that follow Hello.

        ``stay`` is asked often whether the stream may go on: it raises Stopping
        or NotAdmitted when it may not.
        """
        self._ingest = ingest
        self._requests = requests
        self._metrics = metrics
        self._stay = stay
        self._closed = threading.Event()
        self._items: queue.Queue[Item] = queue.Queue(READ_AHEAD_BATCHES)

    def answers(self) -> Iterator[Any]:
        """Yield an acknowledgement for each batch, after it is durable.

        Raises BatchInvalid, NotAdmitted, DatabaseFailed, or Stopping once the
        batch in hand is done.
        """
        threading.Thread(target=self._read, name="read-ahead", daemon=True).start()
        try:
            while True:
                item = self._next()
                if isinstance(item, Exception):
                    raise item
                if isinstance(item, Health):
                    self._note(item)
                else:
                    yield self._apply(item)
        except Done:
            return
        finally:
            self._closed.set()
            self._ingest.close()

    def _next(self) -> Item:
        while True:
            self._stay()
            try:
                return self._items.get(timeout=POLL_S)
            except queue.Empty:
                continue

    def _apply(self, prepared: Prepared) -> Any:  # noqa: ANN401 - a message
        started = time.perf_counter()
        try:
            applied = self._ingest.apply(prepared)
        except Exception:
            self._metrics.refused()
            raise
        self._metrics.applied(applied.verdicts, time.perf_counter() - started)
        if applied.tree_dropped:
            self._metrics.tree_dropped(applied.tree_dropped)
            log.warning(
                "agent %s told %d entries of account trees that it may not: they were passed over",
                self._ingest.agent,
                applied.tree_dropped,
            )
        return encode_ack(applied.number, applied.verdicts, applied.refusals)

    def _note(self, health: Health) -> None:
        with transaction(self._ingest.engine) as conn:
            agents.note_health(conn, self._ingest.agent, health, clock.now_s())

    def _read(self) -> None:
        """Run in its own thread, until the agent or the stream is done."""
        try:
            expected = 1
            for request in self._requests:
                said = read_request(request, expected, clock.now_ms())
                if isinstance(said, Decoded):
                    expected += 1
                    self._hand_on(self._ingest.prepare(said))
                else:
                    self._hand_on(said)
                if self._closed.is_set():
                    return
            self._hand_on(Done())
        except Exception as error:  # noqa: BLE001 - raised again in the stream's own thread
            self._hand_on(error)

    def _hand_on(self, item: Item) -> None:
        while not self._closed.is_set():
            try:
                self._items.put(item, timeout=POLL_S)
            except queue.Full:
                continue
            return
