"""What can be bought, where, and for how much."""

from typing import TYPE_CHECKING, Annotated

import typer

from x402sms.cli.command import command
from x402sms.cli.options import SERVICE, CountryArgument, ServiceArgument
from x402sms.cli.output import Output
from x402sms.cli.resolve import country_code, near_services
from x402sms.cli.run import Run

if TYPE_CHECKING:
    from x402sms.virtualsms.models import Country, Offer, Service

Text = Annotated[
    str | None, typer.Argument(metavar="[TEXT]", help="Only those whose id or name contains it.")
]


def register(app: typer.Typer) -> None:
    command(
        app,
        "services",
        show=_show_services,
        options=SERVICE,
        example="x402sms services tele",
    )(services)
    command(
        app,
        "countries",
        show=_show_countries,
        options=SERVICE,
        example="x402sms countries king",
    )(countries)
    command(
        app,
        "prices",
        show=_show_offers,
        options=SERVICE,
        example="x402sms prices GB",
    )(prices)
    command(
        app,
        "availability",
        show=_show_offers,
        options=SERVICE,
        example="x402sms availability telegram",
    )(availability)
    command(
        app,
        "cheapest",
        show=_show_offer,
        options=SERVICE,
        example="x402sms cheapest telegram",
    )(cheapest)


def services(run: Run, text: Text = None) -> "tuple[Service, ...]":
    """List the services that numbers can be had for. One paid call."""
    return run.client.services.search(text) if text else run.client.services.list()


def countries(run: Run, text: Text = None) -> "tuple[Country, ...]":
    """List the countries that numbers are from. One paid call."""
    from x402sms.virtualsms.names import matches

    known = run.client.countries.list()
    return tuple(country for country in known if matches(text or "", country.iso2, country.name))


def prices(run: Run, country: CountryArgument) -> "tuple[Offer, ...]":
    """List what each service costs in a country, cheapest first. One paid call."""
    return _cheapest_first(run.client.countries.pricing(country_code(run, country)))


def availability(run: Run, service: ServiceArgument) -> "tuple[Offer, ...]":
    """List the countries that have a service, cheapest first. One paid call."""
    with near_services(run, service):
        return _cheapest_first(run.client.services.availability(service))


def cheapest(run: Run, service: ServiceArgument) -> "Offer":
    """Find the country with the cheapest number for a service. One paid call."""
    with near_services(run, service):
        return run.client.services.cheapest(service)


def _cheapest_first(offers: "tuple[Offer, ...]") -> "tuple[Offer, ...]":
    return tuple(sorted(offers, key=lambda offer: (offer.price, not offer.in_stock)))


def _show_services(out: Output, found: "tuple[Service, ...]") -> None:
    out.table(
        ("id", "name", "category"),
        ((service.id, service.name, service.category) for service in found),
    )


def _show_countries(out: Output, found: "tuple[Country, ...]") -> None:
    out.table(
        ("code", "name", "stock"),
        ((country.iso2, country.name, _stock(country)) for country in found),
    )


def _show_offers(out: Output, offers: "tuple[Offer, ...]") -> None:
    out.table(
        ("service", "country", "USDC", "stock"),
        ((offer.service, offer.country, offer.price, _stock(offer)) for offer in offers),
    )


def _show_offer(out: Output, offer: "Offer") -> None:
    _show_offers(out, (offer,))


def _stock(row: "Offer | Country") -> object:
    if row.stock is not None:
        return row.stock
    return "in stock" if row.in_stock else "none"
