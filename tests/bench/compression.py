"""Whether compression of the stream helps: ``python -m tests.bench.compression``.

Delivers the same spool through today's link with each of gRPC's algorithms, over
loopback and through a proxy that lets 10 Mbit/s pass, to a collector that only
acknowledges. Prints seconds, CPU seconds of agent and collector together, and
bytes on the wire.
"""

import logging
import random
import shutil
import socket
import sys
import tempfile
import threading
import time
from concurrent import futures
from pathlib import Path
from typing import Final

import grpc

from jobledger_agent.delivery import call
from jobledger_agent.delivery.link import Identity, Link
from jobledger_agent.health import Health
from jobledger_agent.protocol import wire
from jobledger_agent.records.job import SlurmJob
from jobledger_agent.settings.sections import CollectorSection
from jobledger_agent.spooling.spool import Spool
from jobledger_proto.v1 import usage_pb2_grpc
from tests.agent.notebook import Notebook, a_job

BLOCKS: Final = 100
RECORDS: Final = 1_000
PIECE_BYTES: Final = 16_384
ALGORITHMS: Final = {
    "none": grpc.Compression.NoCompression,
    "deflate": grpc.Compression.Deflate,
    "gzip": grpc.Compression.Gzip,
}


class Proxy:
    """Passes bytes on, at most so many bits a second upwards (0: as fast as it can)."""

    def __init__(self, port: int, bits_s: int) -> None:
        self._target = port
        self._bits_s = bits_s
        self.up_bytes = 0
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._socket.accept()
            except OSError:
                return
            far = socket.create_connection(("127.0.0.1", self._target))
            for source, sink, is_up in ((near, far, True), (far, near, False)):
                arguments = (source, sink, is_up)
                threading.Thread(target=self._pump, args=arguments, daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, is_up: bool) -> None:
        free_at = time.monotonic()
        try:
            while data := source.recv(PIECE_BYTES):
                if is_up:
                    self.up_bytes += len(data)
                    if self._bits_s:
                        free_at = max(free_at, time.monotonic()) + len(data) * 8 / self._bits_s
                        time.sleep(max(0, free_at - time.monotonic()))
                sink.sendall(data)
        except OSError:
            return

    def close(self) -> None:
        """Take no more connections."""
        self._socket.close()


def a_month(dice: random.Random, job_id: int) -> SlurmJob:
    """A run as clusters have them: few users and shapes, no two times alike."""
    submit = 1_790_000_000 + job_id * 3 + dice.randrange(900)
    start = submit + dice.randrange(20_000)
    end = start + int(dice.lognormvariate(7, 2))
    cpus = dice.choice((1, 1, 4, 16, 64, 128))
    tres = (("billing", cpus), ("cpu", cpus), ("mem", cpus * 4000), ("node", 1 + cpus // 65))
    user = dice.randrange(300)
    return a_job(job_id)._replace(
        submit=submit, eligible=submit, start=start, end=end, slurm_elapsed_s=end - start,
        alloc_tres=tres, req_tres=tres, alloc_cpus=cpus, user=f"user{user:04d}", uid=20_000 + user,
        account=f"project{user % 60}", node_list=f"node{dice.randrange(1, 900):04d}",
        assoc_id=user, sluid=job_id * 7 + 10**9, timelimit_s=dice.choice((3600, 86_400)),
        total_cpu_ms=(end - start) * cpus * dice.randrange(100, 990),
        max_rss_bytes=dice.randrange(1 << 34), steps=dice.randrange(4), observed=end + 31,
    )  # fmt: skip


def deliver(payloads: list[wire.Encoded], algorithm: grpc.Compression, bits_s: int) -> str:
    """Deliver all of it once; returns the figures."""
    notebook = Notebook()
    server = grpc.server(futures.ThreadPoolExecutor(4))
    usage_pb2_grpc.add_LedgerServiceServicer_to_server(notebook, server)
    proxy = Proxy(server.add_insecure_port("127.0.0.1:0"), bits_s)
    server.start()
    folder = Path(tempfile.mkdtemp(prefix="compression-"))
    plain = call.CHANNEL_OPTIONS
    call.CHANNEL_OPTIONS = (*plain, ("grpc.default_compression_algorithm", algorithm.value))  # type: ignore[misc,assignment]
    spool = Spool(folder / "spool.db")
    for number, payload in enumerate(payloads):
        spool.append("s", [payload], str(number), 0)
    section = CollectorSection(address=f"127.0.0.1:{proxy.port}")
    link = Link(section, Identity("bench", "1", ("alpha",)), spool, Health(), lambda: 0)
    began, cpu = time.monotonic(), time.process_time()
    thread = threading.Thread(target=link.run, daemon=True)
    thread.start()
    while spool.stats().records:
        time.sleep(0.01)
    took_s, cpu_s = time.monotonic() - began, time.process_time() - cpu
    link.stop(5)
    thread.join()
    spool.close()
    call.CHANNEL_OPTIONS = plain  # type: ignore[misc]
    proxy.close()
    server.stop(None).wait()
    shutil.rmtree(folder)
    return f"{took_s:6.2f} s  {cpu_s:6.2f} CPU s  {proxy.up_bytes / 1e6:6.2f} MB up"


def main() -> int:
    """Measure every combination."""
    logging.disable(logging.CRITICAL)
    dice = random.Random(1)
    payloads = [
        block
        for first in range(0, BLOCKS * RECORDS, RECORDS)
        for block in wire.encode([a_month(dice, first + n) for n in range(RECORDS)])
    ]
    total = sum(len(block.payload) for block in payloads)
    sys.stdout.write(f"{BLOCKS * RECORDS:,} records, {total / 1e6:.2f} MB encoded\n")
    for name, bits_s in (("loopback", 0), ("10 Mbit/s", 10_000_000)):
        for algorithm, value in ALGORITHMS.items():
            figures = deliver(payloads, value, bits_s)
            sys.stdout.write(f"{name:<10} {algorithm:<8} {figures}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
