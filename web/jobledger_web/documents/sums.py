"""The last check before paper: a document that does not add up is not drawn."""

from jobledger_collector.core.document import Document
from jobledger_web.documents.figures import minor_of
from jobledger_web.documents.shape import DocumentUnfit


def require_sums(document: Document) -> None:
    """Raise DocumentUnfit unless every sum that the page shows is exact.

    Lines: list amount - discount = net. Document: the lines add up to the
    totals, and subtotal + tax = total. Annex: the jobs add up to the subtotal.
    """
    exponent = document["exponent"]

    def minor(text: str) -> int:
        try:
            return minor_of(text, exponent)
        except ValueError as error:
            raise DocumentUnfit(f"An amount of document {document['number']}: {error}.") from error

    lines, totals, annex = document["lines"], document["totals"], document["annex"]
    claims = [
        (
            f"the net amount of line {line['line']}",
            minor(line["net"]),
            minor(line["list_amount"]) - minor(line["discount"]),
        )
        for line in lines
    ]
    subtotal, tax = minor(totals["subtotal"]), minor(totals["tax"])
    jobs = sum(minor(job["cost"]) for job in annex["jobs"]) + minor(annex["others_cost"])
    claims += [
        (
            "the list amount",
            minor(totals["list_amount"]),
            sum(minor(x["list_amount"]) for x in lines),
        ),
        ("the discount", minor(totals["discount"]), sum(minor(x["discount"]) for x in lines)),
        ("the subtotal", subtotal, sum(minor(line["net"]) for line in lines)),
        ("the tax", tax, minor(document["tax"]["amount"])),
        ("the tax base", minor(document["tax"]["base"]), subtotal),
        ("the total", minor(totals["total"]), subtotal + tax),
        ("the annex of jobs", jobs, subtotal),
    ]
    for what, said, found in claims:
        if said != found:
            raise DocumentUnfit(
                f"Document {document['number']} does not add up: {what} is {said}, its parts make "
                f"{found} (minor units of {document['currency']}). Do not send it; report it."
            )
