"""A collector's manners without its store, for tests of how the agent delivers."""

from collections.abc import Callable, Iterator
from typing import Any

import grpc

from jobledger_agent.records.job import NO_TRES, SlurmJob
from jobledger_proto.v1 import usage_pb2 as pb
from jobledger_proto.v1 import usage_pb2_grpc

WELCOME = pb.Welcome(
    version="0.0-test", window_batches=8, max_batch_records=2000, max_batch_bytes=1 << 20
)


class Notebook(usage_pb2_grpc.LedgerServiceServicer):
    """A collector's manners without its store: it writes down what it is told."""

    def __init__(self) -> None:
        self.hellos: list[pb.Hello] = []
        self.statuses: list[pb.Status] = []
        self.jobs: list[int] = []
        self.unreadable = 0
        self.metadata: list[dict[str, Any]] = []
        self.welcome = WELCOME
        self.answer: Callable[[pb.Batch], pb.Ack] = full_ack
        self.drop_every = 0

    def Report(  # noqa: N802  gRPC's name
        self, request_iterator: Iterator[pb.ReportRequest], context: grpc.ServicerContext
    ) -> Iterator[pb.ReportResponse]:
        self.metadata.append(dict(context.invocation_metadata()))
        batches = 0
        for request in request_iterator:
            kind = request.WhichOneof("body")
            if kind == "hello":
                self.hellos.append(request.hello)
                yield pb.ReportResponse(welcome=self.welcome)
            elif kind == "status":
                self.statuses.append(request.status)
            else:
                batches += 1
                if self.drop_every and batches % self.drop_every == 0:
                    context.abort(grpc.StatusCode.UNAVAILABLE, "dropped by the test")
                self.jobs.extend(request.batch.jobs.job_id)
                self.unreadable += len(request.batch.unreadable)
                yield pb.ReportResponse(ack=self.answer(request.batch))


def full_ack(batch: pb.Batch) -> pb.Ack:
    verdicts = [pb.VERDICT_NEW] * batch.jobs.rows
    verdicts += [pb.VERDICT_QUARANTINED] * len(batch.unreadable)
    return pb.Ack(number=batch.number, verdicts=verdicts)


def a_job(job_id: int) -> SlurmJob:
    fields = dict.fromkeys(SlurmJob._fields, 0) | {
        "cluster": "alpha", "job_id": job_id, "submit": 1_790_000_000, "state": "COMPLETED",
        "alloc_tres": (("cpu", 4), ("mem", 4608)), "req_tres": NO_TRES, "node_list": "n1",
        "user": "alice", "account": "physics", "partition": "batch", "qos": "normal",
        "wckey": "", "reservation": "",
    }  # fmt: skip
    return SlurmJob(**fields)  # type: ignore[arg-type]
