"""One question to slurmrestd over HTTP: by TCP, TLS or a socket file, limited in size and time.

An answer goes to a file first: it is looked at only once all of it has arrived.
A token is never sent in plain text to another machine.
"""

import http.client
import json
import os
import pwd
import re
import socket
import ssl
from base64 import urlsafe_b64decode
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import BinaryIO, Final, NamedTuple, cast
from urllib.parse import urlencode, urlsplit

from jobledger_agent import clock
from jobledger_agent.reading.accounting import TooMuch
from jobledger_agent.slurm.turn import alone
from jobledger_agent.source import SourceError

MAX_ANSWER_BYTES: Final = 1 << 30
"""Of one answer; a larger one is asked for in smaller spans."""
MAX_IN_MEMORY_BYTES: Final = 1 << 18
"""Of one answer; what is more waits in a temporary file."""
MAX_TOKEN_BYTES: Final = 16_384
"""Of the file that holds a token."""
CHUNK_BYTES: Final = 65_536
"""Read at a time."""
DEFAULT_PORT: Final = 6820
"""Where slurmrestd listens if nobody says otherwise."""
LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})
"""The hosts to which plain text may go."""

_TOKEN = re.compile(r"(?:SLURM_JWT=)?([\w-]+\.([\w-]+)\.[\w-]+)", re.ASCII)
_SECURE_ONLY = "without TLS only unix:/PATH and http://127.0.0.1:PORT are allowed; use https://"


class Address(NamedTuple):
    """Where slurmrestd listens; ``path`` is a socket file's, else empty."""

    text: str
    scheme: str
    host: str
    port: int
    path: str


class Reply(NamedTuple):
    """An answer that has arrived whole."""

    status: int
    body: BinaryIO


class Caller(NamedTuple):
    """Who asks: a login ("": the agent's own), and the file with its token, if one is needed."""

    user: str
    token_file: Path | None


def address_of(text: str) -> Address:
    """Read "unix:/path", "http://host:port" or "https://host:port". Raises SourceError."""
    if text.startswith("unix:/"):
        return Address(text, "unix", "localhost", 0, text.removeprefix("unix:"))
    try:
        parts = urlsplit(text)
        host, port = parts.hostname or "", parts.port or DEFAULT_PORT
    except ValueError as error:
        raise SourceError(f"{text!r} is no address of slurmrestd ({error})") from error
    if parts.scheme not in {"http", "https"} or not host or parts.path.strip("/"):
        raise SourceError(
            f"{text!r} is no address of slurmrestd; write unix:/PATH, https://HOST:PORT or"
            " http://127.0.0.1:PORT"
        )
    if parts.scheme == "http" and host not in LOOPBACK:
        raise SourceError(f"{text!r} would send a token in plain text over the network;"
                          f" {_SECURE_ONLY}")  # fmt: skip
    return Address(text, parts.scheme, host, port, "")


class Server:
    """Asks one slurmrestd, one question at a time; each by a connection of its own."""

    def __init__(
        self,
        address: str,
        caller: Caller,
        *,
        timeout_s: int,
        ca_file: Path | None = None,
        lock_path: Path | None = None,
        now: Callable[[], int] = clock.now_s,
    ) -> None:
        """With a ``lock_path`` at most one question is asked by all that name the same file.

        Raises SourceError for an address that cannot be right.
        """
        self.address = address_of(address)
        self._caller = caller
        self._ca_file = ca_file
        self._timeout_s = timeout_s
        self._lock_path = lock_path
        self._now = now

    @contextmanager
    def get(self, path: str, query: Sequence[tuple[str, str]] = ()) -> Iterator[Reply]:
        """Ask for ``path``. Raises SourceError without an answer, TooMuch at a limit."""
        target = f"{path}?{urlencode(query)}" if query else path
        headers = {"Accept": "application/json", "Connection": "close", **self._credentials()}
        with SpooledTemporaryFile(MAX_IN_MEMORY_BYTES) as body:
            with alone(self._lock_path, self._timeout_s, f"slurmrestd at {self.address.text}"):
                status = self._fetch(target, headers, cast("BinaryIO", body))
            body.seek(0)
            yield Reply(status, cast("BinaryIO", body))

    def _fetch(self, target: str, headers: dict[str, str], body: BinaryIO) -> int:
        """Write the answer's body; its status."""
        where = f"slurmrestd at {self.address.text}"
        deadline_ms = clock.monotonic_ms() + 1000 * self._timeout_s
        connection = self._connection()
        try:
            connection.connect()
            # The connection forgets its socket while an answer that ends with it is read.
            wire = connection.sock
            connection.request("GET", target, headers=headers)
            with connection.getresponse() as response:
                _drain(response, wire, deadline_ms, body)
                return response.status
        except TimeoutError as error:
            raise TooMuch(
                f"{where} gave no answer in {self._timeout_s} s; it is asked again; check"
                " slurmrestd, slurmdbd and its database"
            ) from error
        except ssl.SSLError as error:
            raise SourceError(
                f"{where} cannot be trusted ({error.reason or error}); check ca_file and the host's"
                " name in its certificate"
            ) from error
        except http.client.HTTPException as error:
            raise SourceError(
                f"the answer of {where} is cut off or no HTTP ({type(error).__name__}); it is asked"
                " again"
            ) from error
        except OSError as error:
            raise SourceError(
                f"{where} cannot be asked ({error.strerror or error}); start it, or correct address"
                " in [[source]]"
            ) from error
        finally:
            connection.close()

    def _connection(self) -> http.client.HTTPConnection:
        address = self.address
        if address.scheme == "unix":
            return _SocketFile(address.path, self._timeout_s)
        if address.scheme == "http":
            return http.client.HTTPConnection(address.host, address.port, timeout=self._timeout_s)
        try:
            context = ssl.create_default_context(cafile=self._ca_file)
        except (OSError, ssl.SSLError) as error:
            raise SourceError(
                f"ca_file {self._ca_file} holds no certificates ({error}); correct [[source]]"
            ) from error
        return http.client.HTTPSConnection(
            address.host, address.port, timeout=self._timeout_s, context=context
        )

    def _credentials(self) -> dict[str, str]:
        """The headers that say who asks; the token is read anew, for it is rotated."""
        path = self._caller.token_file
        if path is None:
            return {}
        user = self._caller.user or own_login()
        return {"X-SLURM-USER-NAME": user, "X-SLURM-USER-TOKEN": _token(path, user, self._now())}


class _SocketFile(http.client.HTTPConnection):
    """HTTP over a socket file."""

    def __init__(self, path: str, timeout_s: int) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        """Connect to the file."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def own_login() -> str:
    """The login of the user that the agent runs as; its number where it has none."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())


def _drain(
    response: http.client.HTTPResponse, wire: socket.socket, deadline_ms: int, body: BinaryIO
) -> None:
    """Read the whole body. Raises TimeoutError, TooMuch, HTTPException for one that is cut off."""
    size_bytes = 0
    while True:
        left_ms = deadline_ms - clock.monotonic_ms()
        if left_ms <= 0:
            raise TimeoutError
        wire.settimeout(left_ms / 1000)
        chunk = response.read1(CHUNK_BYTES)
        if not chunk:
            break
        size_bytes += body.write(chunk)
        if size_bytes > MAX_ANSWER_BYTES:
            raise TooMuch(f"an answer of slurmrestd is larger than {MAX_ANSWER_BYTES >> 30} GiB")
    if response.length:
        raise http.client.IncompleteRead(b"", response.length)


def _token(path: Path, user: str, now: int) -> str:
    """The token in a file. Raises SourceError for one that cannot be or has expired."""
    renew = f"make a new one: scontrol token username={user} lifespan=SECONDS > {path}"
    try:
        with path.open("rb") as file:
            text = file.read(MAX_TOKEN_BYTES).decode("ascii", "replace").strip()
    except OSError as error:
        raise SourceError(
            f"token_file {path} cannot be read ({error.strerror}); {renew}"
        ) from error
    found = _TOKEN.fullmatch(text)
    if not found:
        raise SourceError(f"token_file {path} holds no JSON Web Token; {renew}")
    expiry = _expiry(found[2])
    if expiry and expiry <= now:
        raise SourceError(f"the token in {path} expired {now - expiry} s ago; {renew}")
    return found[1]


def _expiry(payload: str) -> int:
    """When a token ends (epoch s); 0 where it does not say so."""
    try:
        claims = json.loads(urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    except (ValueError, RecursionError):
        return 0
    expiry = claims.get("exp") if isinstance(claims, dict) else None
    return expiry if isinstance(expiry, int) else 0
