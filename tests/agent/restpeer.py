"""A real HTTP peer that says what a real slurmrestd was recorded saying.

Of the recorded jobs it gives those that the query asks for, by the rules of the
version: they were read off the real ones (see docs/sources.md).
"""

import gzip
import json
import socket
import socketserver
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import cache
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlsplit

from jobledger_agent import clock
from jobledger_agent.records.job import Reading, SlurmJob
from jobledger_agent.slurm.slurmrestd import Slurmrestd
from jobledger_agent.slurm.slurmrestd_http import Caller, Server
from tests.agent.dumps import DATA

NOW = 1_795_300_000
NOBODY = Caller("", None)
SAMPLES = {
    "v0.0.38": "22.05",
    "v0.0.39": "23.11",
    "v0.0.40": "23.11",
    "v0.0.41": "25.11",
    "v0.0.42": "25.11",
    "v0.0.43": "25.11",
    "v0.0.44": "25.11",
    "v0.0.45": "26.05",
}
"""Each version and the Slurm that was recorded speaking it."""
CLUSTERS = {"22.05": "alpha", "23.11": "lab", "25.11": "alpha", "26.05": "lab"}
"""The cluster that was recorded."""
TREES = {
    "v0.0.38": "22.05",
    "v0.0.39": "23.11",
    "v0.0.40": "23.11",
    "v0.0.44": "25.11",
    "v0.0.45": "26.05",
}
"""The versions whose account tree was recorded."""
OLD = ("v0.0.38", "v0.0.39")
BASE_STATES = {
    "BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY",
    "PREEMPTED", "RUNNING", "SUSPENDED", "TIMEOUT",
}  # fmt: skip
NOTHING_22 = {"errors": [{"description": "Nothing found", "error_number": 9003}], "jobs": []}
NOTHING = {
    "jobs": [], "errors": [],
    "warnings": [{"description": "slurmdb_jobs_get() found nothing", "source": "_dump_jobs"}],
}  # fmt: skip


class Said(NamedTuple):
    """One answer: status, body, and headers besides."""

    status: int
    body: bytes
    headers: Mapping[str, str] = {}


class Asked(NamedTuple):
    """One question as it arrived."""

    path: str
    query: Sequence[tuple[str, str]]
    headers: Mapping[str, str]


Answer = Callable[[Asked], Said]


def said(document: object, status: int = 200) -> Said:
    """An answer in JSON."""
    return Said(status, json.dumps(document).encode())


@cache
def recorded(version: str) -> dict[str, Any]:
    """The jobs as this version tells them."""
    name = f"slurm-{SAMPLES[version]}/rest-{version}-slurmdb-jobs.json.gz"
    document: dict[str, Any] = json.loads(gzip.decompress((DATA / name).read_bytes()))
    return document


@cache
def tree_of(version: str) -> dict[str, Any]:
    """Clusters, accounts, users, associations, QOS and statistics as this version tells them."""
    name = f"slurm-{TREES[version]}/rest-{version}-tree.json.gz"
    document: dict[str, Any] = json.loads(gzip.decompress((DATA / name).read_bytes()))
    return document


def recording(version: str, clusters: Sequence[str] = ()) -> Answer:
    """What a slurmrestd that serves ``version`` answers."""
    clusters = clusters or (CLUSTERS[SAMPLES[version]],)

    def answer(asked: Asked) -> Said:
        if f"/{version}/" not in asked.path:
            return Said(404, b"Unable find requested URL.")
        if asked.path.endswith("/clusters"):
            meta = recorded(version)["meta"]
            return said({"meta": meta, "errors": [], "clusters": [{"name": n} for n in clusters]})
        if asked.path.endswith("/jobs"):
            return _jobs(version, asked.query)
        tree = json.dumps(tree_of(version)[asked.path.rpartition("/")[2]])
        return Said(200, tree.replace('"lab"', f'"{clusters[0]}"').encode())

    return answer


def _jobs(version: str, query: Sequence[tuple[str, str]]) -> Said:
    values = dict(query)
    is_old = version in OLD
    states = [value for name, value in query if name == "state"]
    steps = [value for name, value in query if name == "step"]
    if is_old:
        states, steps = (",".join(each).split(",") if each else [] for each in (states, steps))
        if {"show_duplicates", "disable_truncate_usage_time"} & values.keys():
            return said({"errors": [{"description": "Unknown Query field"}]}, 500)
    elif any("," in value for value in (*states, *steps)):
        return said({"errors": [{"description": "Unknown flag"}], **NOTHING}, 500)
    is_mute = version == "v0.0.40" and "skip_steps" in values and "scheduler_unset" not in values
    jobs = [] if is_mute else _selected(version, values, states, steps)
    if not jobs:
        return said(NOTHING_22 if version == "v0.0.38" else NOTHING)
    if values.get("skip_steps") == "true":
        jobs = [{**job, "steps": []} for job in jobs]
    return said({**recorded(version), "jobs": jobs})


def _selected(
    version: str, values: Mapping[str, str], states: Sequence[str], steps: Sequence[str]
) -> list[dict[str, Any]]:
    jobs = [job for job in recorded(version)["jobs"] if job["cluster"] == values["cluster"]]
    if steps:
        return [job for job in jobs if str(job["job_id"]) in steps]
    if "start_time" not in values:
        return [job for job in jobs if state_of(job) in states and not job["time"]["end"]]
    begin, end = (int(values[name].removeprefix("uts")) for name in ("start_time", "end_time"))
    if not states:
        eligible = [job for job in jobs if 0 < job["time"]["eligible"] < end]
        return [job for job in eligible if not job["time"]["end"] or job["time"]["end"] >= begin]
    told = set(states) & BASE_STATES if version in OLD else set(states)
    return [job for job in jobs if state_of(job) in told and begin <= job["time"]["end"] <= end]


def state_of(job: Mapping[str, Any]) -> str:
    """The state by which Slurm keeps a job."""
    current = job["state"]["current"]
    return str(current if isinstance(current, str) else current[-1])


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: "Peer"

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        asked = Asked(parts.path, parse_qsl(parts.query), dict(self.headers))
        self.server.asked.append(asked)
        status, body, headers = self.server.answer(asked)
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = True

    def address_string(self) -> str:
        return "peer"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


class Peer(socketserver.ThreadingMixIn, socketserver.BaseServer):
    """What the two kinds of server below share."""

    daemon_threads = True
    asked: list[Asked]
    answer: Answer

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that goes away is what the limits are for."""


class _Tcp(Peer, socketserver.TCPServer):
    allow_reuse_address = True


class _Unix(Peer, socketserver.UnixStreamServer):
    pass


@contextmanager
def serving(
    answer: Answer, socket_file: Path | None = None, tls: ssl.SSLContext | None = None
) -> Iterator[tuple[str, list[Asked]]]:
    """Serve on a socket file, or on a port; the address, and what was asked."""
    server: _Tcp | _Unix
    if socket_file is not None:
        server = _Unix(str(socket_file), _Handler)
        address = f"unix:{socket_file}"
    else:
        server = _Tcp(("127.0.0.1", 0), _Handler)
        port = server.socket.getsockname()[1]
        address = f"{'https://localhost' if tls else 'http://127.0.0.1'}:{port}"
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    server.asked, server.answer = [], answer
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield address, server.asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def speaking(reply: bytes, *, hold_s: float = 0) -> Iterator[str]:
    """A port where whatever is asked is answered with these bytes, the socket then held open."""
    stop = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(10)

        def talk() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65_536)
                connection.sendall(reply)
                stop.wait(hold_s)

        thread = threading.Thread(target=talk, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        stop.set()
        thread.join()


@contextmanager
def asking(
    answer: Answer,
    cluster: str = "alpha",
    data_parser: str = "",
    *,
    caller: Caller = NOBODY,
    now: Callable[[], int] = clock.now_s,
) -> Iterator[tuple[Slurmrestd, list[Asked]]]:
    with serving(answer) as (address, asked):
        server = Server(address, caller, timeout_s=10, now=now)
        yield Slurmrestd((cluster,), server, data_parser=data_parser, now=lambda: NOW), asked


def all_of(answer: AbstractContextManager[Iterator[Reading]]) -> list[Reading]:
    with answer as readings:
        return list(readings)


def jobs_of(answer: AbstractContextManager[Iterator[Reading]]) -> list[SlurmJob]:
    readings = all_of(answer)
    assert all(isinstance(reading, SlurmJob) for reading in readings)
    return [reading for reading in readings if isinstance(reading, SlurmJob)]
