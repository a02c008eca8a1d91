"""The bill of materials of a package, as CycloneDX 1.6: what is in it, from which wheel."""

import json
import re
import uuid
from email.parser import HeaderParser
from pathlib import Path
from typing import Final, NamedTuple

from scripts.package.plan import NAME, Plan

NAMESPACE: Final = uuid.uuid5(uuid.NAMESPACE_URL, "https://jobledger.invalid/sbom")
_PIN: Final = re.compile(r"^(?P<name>[\w.-]+)==(?P<version>[\w.]+)", re.MULTILINE)
_HASH: Final = re.compile(r"--hash=sha256:([0-9a-f]{64})")


class Pin(NamedTuple):
    """One library of the lock: exactly this version, one of these wheels (SHA-256)."""

    name: str
    version: str
    hashes: tuple[str, ...]


def pins(lock: Path) -> tuple[Pin, ...]:
    """Read the lock, in its order."""
    text = lock.read_text()
    starts = list(_PIN.finditer(text))
    ends = [*(found.start() for found in starts[1:]), len(text)]
    return tuple(
        Pin(found["name"], found["version"], tuple(_HASH.findall(text[found.end() : end])))
        for found, end in zip(starts, ends, strict=True)
    )


def describe(plan: Plan, lock: Path, libraries: Path) -> str:
    """Return the document. The same build has the same serial number."""
    components = [_component(pin, libraries) for pin in pins(lock)]
    subject = {
        "type": "application",
        "name": NAME,
        "version": plan.version,
        "licenses": [{"license": {"id": "Apache-2.0"}}],
    }
    document = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(NAMESPACE, json.dumps([subject, components]))}",
        "version": 1,
        "metadata": {"component": subject},
        "components": components,
    }
    return json.dumps(document, indent=2) + "\n"


def _component(pin: Pin, libraries: Path) -> dict[str, object]:
    folder = f"{pin.name.replace('-', '_')}-{pin.version}.dist-info"
    about = HeaderParser().parsestr((libraries / folder / "METADATA").read_text())
    licence = about["License-Expression"] or about["License"] or ""
    return {
        "type": "library",
        "name": pin.name,
        "version": pin.version,
        "purl": f"pkg:pypi/{pin.name}@{pin.version}",
        "hashes": [{"alg": "SHA-256", "content": each} for each in pin.hashes],
        "licenses": [{"license": {"name": " ".join(licence.split())[:80] or "see third-party"}}],
    }
