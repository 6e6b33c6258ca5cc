"""What can be bought: services, countries, prices, stock."""

from __future__ import annotations

from fastapi import APIRouter

from x402sms.money import format_usdc
from x402sms.sandbox.models import CountryOffer, CountryOut, ServiceOffer, ServiceOut
from x402sms.sandbox.orders import no_stock_anywhere
from x402sms.sandbox.paid import RESPONSES, PaidRoute, TheSandbox
from x402sms.sandbox.places import Country
from x402sms.sandbox.problems import Problem
from x402sms.sandbox.state import Sandbox
from x402sms.sandbox.words import Service

router = APIRouter(route_class=PaidRoute, responses=RESPONSES, tags=["discovery"])


@router.get("/services", response_model=list[ServiceOut])
async def list_services(sandbox: TheSandbox) -> list[Service]:
    return list(sandbox.catalogue.services)


@router.get("/countries")
async def list_countries(sandbox: TheSandbox) -> list[CountryOut]:
    return [
        CountryOut(
            iso2=country.iso2, name=country.name, in_stock=sandbox.catalogue.in_stock(country)
        )
        for country in sandbox.catalogue.countries
    ]


@router.get("/services/{service_id}/cheapest")
async def cheapest(service_id: str, sandbox: TheSandbox) -> CountryOffer:
    """The lowest price of a country with stock; 503 if there is none."""
    catalogue, service = sandbox.catalogue, find_service(sandbox, service_id)
    stocked = [country for country in catalogue.countries if catalogue.stock(service, country)]
    if not stocked:
        raise no_stock_anywhere(service)
    best = min(stocked, key=lambda country: catalogue.price_atomic(service, country))
    return _offer(sandbox, service, best)


@router.get("/services/{service_id}/availability")
async def availability(service_id: str, sandbox: TheSandbox) -> list[CountryOffer]:
    """Every country, those without stock included."""
    service = find_service(sandbox, service_id)
    return [_offer(sandbox, service, country) for country in sandbox.catalogue.countries]


@router.get("/countries/{iso2}/pricing")
async def pricing(iso2: str, sandbox: TheSandbox) -> list[ServiceOffer]:
    """Every service, those without stock included."""
    country = find_country(sandbox, iso2)
    catalogue = sandbox.catalogue
    return [
        ServiceOffer(
            service=service.id,
            price=format_usdc(catalogue.price_atomic(service, country)),
            stock=catalogue.stock(service, country),
        )
        for service in catalogue.services
    ]


def find_service(sandbox: Sandbox, service_id: str) -> Service:
    service = sandbox.catalogue.service(service_id)
    if service is None:
        raise Problem(404, "service-not-found", f"No service {service_id[:80]!r}")
    return service


def find_country(sandbox: Sandbox, iso2: str) -> Country:
    country = sandbox.catalogue.country(iso2)
    if country is None:
        raise Problem(404, "country-not-found", f"No country {iso2[:80]!r}")
    return country


def _offer(sandbox: Sandbox, service: Service, country: Country) -> CountryOffer:
    return CountryOffer(
        country=country.iso2,
        price=format_usdc(sandbox.catalogue.price_atomic(service, country)),
        stock=sandbox.catalogue.stock(service, country),
    )
