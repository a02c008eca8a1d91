"""A contract as it was released, as messages that know nothing of what came later."""

from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pool, message_factory
from google.protobuf.descriptor_pb2 import FileDescriptorSet

DATA = Path(__file__).parent / "data"
RELEASES = sorted(folder.name for folder in DATA.iterdir())
"""Releases whose agents and collectors this one works with."""
REPORT = "/jobledger.v1.LedgerService/Report"
VERIFY = "/jobledger.v1.LedgerService/Verify"


class Contract:
    """The messages of one release."""

    def __init__(self, release: str) -> None:
        pool = descriptor_pool.DescriptorPool()
        descriptors = FileDescriptorSet.FromString((DATA / release / "contract.binpb").read_bytes())
        for file in descriptors.file:
            pool.Add(file)
        self._pool = pool
        self.methods = {method.name for method in descriptors.file[-1].service[0].method}
        self.Request = self._message("ReportRequest")
        self.Response = self._message("ReportResponse")

    def _message(self, name: str) -> Any:  # noqa: ANN401 - a class that is made here
        found = self._pool.FindMessageTypeByName(f"jobledger.v1.{name}")
        return message_factory.GetMessageClass(found)
