"""The one thing that travels from the collector's operator to an agent's: a code. Pure.

``jobledger1.BODY.CHECK``: BODY is base64url of JSON, CHECK the first digits of
BODY's SHA-256, so that a code that lost a line on the way is noticed. White
space anywhere is passed over. It holds secrets: whoever has it is the agent.
"""

import base64
import hashlib
import json
from typing import Final, NamedTuple

PREFIX: Final = "jobledger1"
"""Version 1 of the code's form; an agent refuses another one."""
CHECK_DIGITS: Final = 12
LINE_CHARS: Final = 76


class Code(NamedTuple):
    """What an agent needs to report. Texts; PEM for ``ca``, ``certificate`` and ``key``.

    ``token`` "" asks for none, ``ca`` "" means the system's authorities where
    ``tls`` is set, without which the collector is on the same machine.
    """

    agent: str
    clusters: tuple[str, ...]
    address: str
    tls: bool
    token: str = ""
    ca: str = ""
    certificate: str = ""
    key: str = ""


def encode(code: Code) -> str:
    """Write a code on lines that fit any terminal."""
    given = {name: value for name, value in code._asdict().items() if value}
    body = base64.urlsafe_b64encode(json.dumps(given, ensure_ascii=True).encode()).decode()
    check = hashlib.sha256(body.encode()).hexdigest()[:CHECK_DIGITS]
    whole = f"{PREFIX}.{body}.{check}"
    return "\n".join(
        whole[start : start + LINE_CHARS] for start in range(0, len(whole), LINE_CHARS)
    )
