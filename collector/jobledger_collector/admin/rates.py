"""``jobledger rates``: check, load and show rate cards."""

import argparse
from pathlib import Path
from typing import Final

from jobledger_collector.admin.context import Context
from jobledger_collector.admin.files import read_document
from jobledger_collector.admin.outcome import CommandFailed
from jobledger_collector.admin.output import json_line, say, table
from jobledger_collector.admin.repricing import reprice
from jobledger_collector.core.card import FixedPrice, OtherTier, Override, RateCard
from jobledger_collector.core.explain import local_time
from jobledger_collector.core.money import format_price
from jobledger_collector.currency import exponent_of
from jobledger_collector.store.cards import (
    StoredCard,
    load_book,
    load_card,
    read_card,
    stored_cards,
)

EPILOG: Final = """\
examples:
  jobledger rates check packaging/rates/mahidol.yaml
  jobledger rates load packaging/rates/mahidol.yaml
  jobledger rates list --json
  jobledger rates show mahidol-hpc --version 1

Loading a card prices again, by the time at which each run used what it used,
everything that is not invoiced; what is on an invoice stays as it was billed.
A card's version never changes: new prices are a new version.
"""


def register(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command group to the program."""
    parser = subparsers.add_parser(
        "rates",
        help="check, load and show rate cards",
        description="Check, load and show rate cards.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    check = actions.add_parser("check", help="say whether a card is valid; needs no database")
    check.add_argument("file", type=Path)
    check.set_defaults(run=_check)
    load = actions.add_parser("load", help="load a card and price what it changes")
    load.add_argument("file", type=Path)
    load.set_defaults(run=_load)
    listing = actions.add_parser("list", help="list the versions")
    listing.add_argument("--json", action="store_true", help="one JSON object a line")
    listing.set_defaults(run=_list)
    show = actions.add_parser("show", help="show one version's prices")
    show.add_argument("card")
    show.add_argument("--version", type=int, metavar="N", help="default: the newest")
    show.add_argument("--document", action="store_true", help="the YAML as it was loaded")
    show.set_defaults(run=_show)


def _check(args: argparse.Namespace, context: Context) -> int:
    card = read_card(read_document(args.file), str(args.file))
    exponent_of(card.currency)
    skus = sum(len(skus) for skus in card.skus.values())
    say(
        context.out,
        f"{args.file}: valid: {card.label}, {skus} SKUs, {len(card.tiers)} tiers,"
        f" {len(card.overrides)} overrides, in {card.currency}, in force from"
        f" {local_time(card.effective_from, card.timezone)} ({card.timezone}),"
        f" sha256 {card.sha256}",
    )
    return 0


def _load(args: argparse.Namespace, context: Context) -> int:
    text = read_document(args.file)
    exponent_of(read_card(text, str(args.file)).currency)
    context.make_tables()
    with context.writing() as conn:
        earliest = load_book(conn).earliest()
        loaded = load_card(conn, text, str(args.file), context.now_s(), context.person)
        if not loaded.is_new:
            say(context.out, f"{loaded.card.label} is in the books already; nothing changed.")
            return 0
        card = loaded.card
        # The first card of all also says what is metered before it.
        is_first = earliest is None or card.effective_from < earliest.effective_from
        say(
            context.out,
            f"Loaded {card.label}, in force from"
            f" {local_time(card.effective_from, card.timezone)} ({card.timezone}).",
        )
        reprice(conn, context, ended_after=0 if is_first else card.effective_from - 1)
    return 0


def _list(args: argparse.Namespace, context: Context) -> int:
    with context.reading() as conn:
        cards = stored_cards(conn)
        timezone = load_book(conn).timezone
    if args.json:
        for card in cards:
            fields = card._asdict()
            del fields["document"]
            json_line(context.out, fields)
        return 0
    rows = [
        (
            card.card,
            card.version,
            local_time(card.effective_from, timezone),
            card.sha256[:12],
            local_time(card.loaded_at, timezone),
            card.loaded_by,
        )
        for card in cards
    ]
    headings = ("CARD", "VERSION", f"IN FORCE FROM ({timezone})", "SHA256", "LOADED", "BY")
    table(context.out, headings, rows)
    return 0


def _show(args: argparse.Namespace, context: Context) -> int:
    with context.reading() as conn:
        stored = _find(stored_cards(conn), args.card, args.version)
    if args.document:
        context.out.write(stored.document)
        return 0
    card = read_card(stored.document, stored.file)
    say(
        context.out,
        f"{card.label}, prices in {card.currency}, in force from"
        f" {local_time(card.effective_from, card.timezone)} ({card.timezone}),"
        f" default tier {card.default_tier}, sha256 {card.sha256}",
    )
    say(context.out)
    _show_skus(card, context)
    if card.overrides:
        say(context.out)
        _show_overrides(card, context)
    return 0


def _find(cards: list[StoredCard], name: str, version: int | None) -> StoredCard:
    named = [card for card in cards if card.card == name and version in {None, card.version}]
    if not named:
        wanted = f"{name} v{version}" if version else name
        raise CommandFailed(f"There is no rate card {wanted}: `jobledger rates list` shows all")
    return named[-1]


def _show_skus(card: RateCard, context: Context) -> None:
    rows = [
        (
            sku.id,
            sku.meter,
            " ".join(f"{key}={','.join(sorted(values))}" for key, values in sku.match.items()),
            format_price(sku.list_e8),
            *(format_price(sku.price_e8[tier]) for tier in card.tiers),
        )
        for skus in card.skus.values()
        for sku in skus
    ]
    table(context.out, ("SKU", "METER", "FOR", "LIST", *card.tiers), rows)


def _show_overrides(card: RateCard, context: Context) -> None:
    rows = [
        (override.id, f"{override.scope} {override.who}", override.sku, _terms(override),
         override.reason)
        for override in card.overrides
    ]  # fmt: skip
    table(context.out, ("OVERRIDE", "FOR", "SKU", "TERMS", "REASON"), rows)


def _terms(override: Override) -> str:
    terms = override.terms
    if isinstance(terms, FixedPrice):
        return f"price {format_price(terms.unit_e8)}"
    if isinstance(terms, OtherTier):
        return f"tier {terms.tier}"
    return f"{format_price(terms.factor_e8)} of the tier"
