"""From what people write to what the service calls it, and to what it offers. Buys no number."""

from __future__ import annotations

from collections.abc import Generator
from decimal import Decimal
from typing import Any

from x402sms.errors import CountryNotFound, NoStock, ServiceNotFound, SpendLimitExceeded
from x402sms.money import usdc
from x402sms.text import one_line
from x402sms.virtualsms import calls
from x402sms.virtualsms.effects import Effect
from x402sms.virtualsms.models import Offer
from x402sms.virtualsms.names import find, is_iso2, normalise_country
from x402sms.virtualsms.patience import make

_NOT_IN_AN_ID = "/\\?#%"


def find_offers(
    service: str, *, until: float
) -> Generator[Effect, Any, tuple[str, tuple[Offer, ...]]]:
    """The service's id, and its price and stock in each country.

    `service` is an id, or a name in any case. Most people write the id, which is tried first and
    in lower case, as the ids are: one paid call. A name that is no id costs two more. Raises
    ServiceNotFound with near names.
    """
    written = service.strip()
    identifier = written.lower()
    if not any(mark in written for mark in _NOT_IN_AN_ID):
        try:
            return identifier, (
                yield from make(calls.service_availability(identifier), until=until)
            )
        except ServiceNotFound:
            pass
    known = yield from find_service(written, until=until)
    return known, (yield from make(calls.service_availability(known), until=until))


def find_service(service: str, *, until: float) -> Generator[Effect, Any, str]:
    """The id of a service written by its id or name, from the list of all: a paid call."""
    services = yield from make(calls.list_services(), until=until)
    try:
        return find(service, [(each.id, each.name) for each in services if _nameable(each.id)])
    except LookupError as error:
        advice = "`x402sms services` lists all there are"
        raise ServiceNotFound(
            f"no service is called {one_line(service, 40)!r}, so nothing was bought. "
            f"{_did_you_mean(error) or advice}"
        ) from None


def find_country(country: str, *, until: float) -> Generator[Effect, Any, str]:
    """The two-letter code of a country written as a code (`GB`, `uk`) or by its name.

    A name that is not widely used costs a paid call. Raises ValueError for numbers,
    CountryNotFound with near names.
    """
    written = normalise_country(country)
    if is_iso2(written):
        return written
    countries = yield from make(calls.list_countries(), until=until)
    try:
        return find(written, [(each.iso2, each.name) for each in countries])
    except LookupError as error:
        advice = "`x402sms countries` lists all there are"
        raise CountryNotFound(
            f"no country is called {one_line(written, 40)!r}, so nothing was bought. "
            f"{_did_you_mean(error) or advice}"
        ) from None


def affordable(
    offers: tuple[Offer, ...], service: str, country: str | None, max_price: Decimal
) -> list[Offer]:
    """Those in stock at most at `max_price` USDC, cheapest first; of equals, more stock first.

    Raises NoStock, and SpendLimitExceeded with the cheapest price where all are dearer.
    """
    there = sorted(
        (
            offer
            for offer in offers
            if offer.in_stock
            and offer.country is not None
            and is_iso2(offer.country)  # what else is there cannot be asked for
            and country in (None, offer.country)
        ),
        key=lambda offer: (offer.price, -(offer.stock or 0), offer.country),
    )
    if not there:
        raise no_stock(service, country)
    under = [offer for offer in there if offer.price <= max_price]
    if not under:
        raise too_dear(service, there[0].country or "?", there[0].price, max_price)
    return under


def no_stock(service: str, country: str | None, tried: int = 0) -> NoStock:
    where = "anywhere" if country is None else f"in {country}"
    advice = "try later" if country is None else "try another country, or leave it open"
    if tried:
        return NoStock(
            f"no number for {service} under your ceiling was left {where}: {tried} tried, nothing "
            f"bought. Raise the ceiling, or {advice}"
        )
    return NoStock(f"no number for {service} {where} now; nothing was bought: {advice}")


def too_dear(service: str, country: str, price: Decimal, max_price: Decimal) -> SpendLimitExceeded:
    return SpendLimitExceeded(
        f"nothing bought: the cheapest number for {service} costs {usdc(price)} USDC "
        f"({country}), and your ceiling is {usdc(max_price)}; raise it with max_price "
        "(--max-price), or try another country",
        limit="max_price",
        allowed=max_price,
        amount=price,
    )


def _nameable(service: str) -> bool:
    """Whether a call can name it."""
    try:
        calls.service_availability(service)
    except ValueError:
        return False
    return True


def _did_you_mean(error: LookupError) -> str:
    near: list[str] = list(error.args)
    return f"Did you mean {', '.join(near)}?" if near else ""
