"""Services and countries, and what a number of each pair costs and how many there are.

Nothing is stored but what has changed: price and stock of all 362,500 pairs follow from the seed.
"""

from __future__ import annotations

import random
from collections import Counter
from functools import lru_cache
from hashlib import blake2b
from itertools import product

from x402sms.sandbox.places import COUNTRIES, Country
from x402sms.sandbox.words import FIRST_WORDS, KNOWN_SERVICES, SECOND_WORDS, Service

SERVICE_COUNT = 2500
# These first services, and `any`, have stock and cost little in each of these first countries.
POPULAR_SERVICES = 20
POPULAR_COUNTRIES = 10

_CENT_OF_A_CENT = 100  # atomic units: prices have at most 4 decimals
_LOWEST, _SPAN = 500, 24_500  # 0.05 to 2.50 USDC in those steps
_POPULAR_SPAN = 2_000  # 0.05 to 0.25 USDC


class Catalogue:
    """`take`, `give_back` and `quoted` are how it changes by itself.

    With `price_drift`, the price of a pair moves each time it was quoted so often.
    """

    def __init__(self, seed: int, *, price_drift: int | None = None) -> None:
        self._seed = seed
        self._price_drift = price_drift
        self.services = _services(seed)
        self.countries = COUNTRIES
        self._service_by_id = _service_by_id(seed)
        self._country_by_code = {country.iso2: country for country in COUNTRIES}
        self._popular_services = {
            "any",
            *(service.id for service in self.services[:POPULAR_SERVICES]),
        }
        self._popular_countries = {country.iso2 for country in COUNTRIES[:POPULAR_COUNTRIES]}
        self._taken: dict[tuple[str, str], int] = {}
        self._prices: dict[tuple[str, str], int] = {}
        self._quotes: Counter[tuple[str, str]] = Counter()

    def service(self, service_id: str) -> Service | None:
        return self._service_by_id.get(service_id)

    def country(self, iso2: str) -> Country | None:
        """The country of a code in either case."""
        return self._country_by_code.get(iso2.upper())

    def in_stock(self, country: Country) -> bool:
        """Whether any service has numbers there; about one country in twenty has none."""
        return (
            country.iso2 in self._popular_countries or self._hash("closed", country.iso2) % 20 > 0
        )

    def price_atomic(self, service: Service, country: Country) -> int:
        """What one number costs: 0.05 to 2.50 USDC, cheap ones more frequent than dear ones."""
        changed = self._prices.get((service.id, country.iso2))
        return self._first_price(service, country) if changed is None else changed

    def quoted(self, service: Service, country: Country) -> None:
        """Somebody was told the price of a pair; it may have moved when they come to pay."""
        key = (service.id, country.iso2)
        self._quotes[key] += 1
        if self._price_drift is None or self._quotes[key] % self._price_drift > 0:
            return
        first, last = self._first_price(service, country), self.price_atomic(service, country)
        drawn = self._hash("drift", *key, str(self._quotes[key]))
        steps = (9 * first + first * (drawn % 201) // 100) // 10 // _CENT_OF_A_CENT
        moved = steps * _CENT_OF_A_CENT
        self._prices[key] = moved if moved != last else moved + _CENT_OF_A_CENT

    def set_price(self, service: Service, country: Country, price_atomic: int) -> None:
        """For tests that need a certain price, or one that moves at a certain moment."""
        self._prices[service.id, country.iso2] = price_atomic

    def _first_price(self, service: Service, country: Country) -> int:
        drawn = self._hash("price", service.id, country.iso2)
        if self._popular(service, country):
            return (_LOWEST + drawn % (_POPULAR_SPAN + 1)) * _CENT_OF_A_CENT
        permille = drawn % 1001
        return (_LOWEST + _SPAN * permille**3 // 1000**3) * _CENT_OF_A_CENT

    def stock(self, service: Service, country: Country) -> int:
        """How many numbers are left."""
        taken = self._taken.get((service.id, country.iso2), 0)
        return max(0, self._initial_stock(service, country) - taken)

    def take(self, service: Service, country: Country) -> bool:
        """Take one number out of stock; False if there is none."""
        if self.stock(service, country) == 0:
            return False
        key = (service.id, country.iso2)
        self._taken[key] = self._taken.get(key, 0) + 1
        return True

    def give_back(self, service: Service, country: Country) -> None:
        self._taken[service.id, country.iso2] -= 1

    def set_stock(self, service: Service, country: Country, count: int) -> None:
        """For tests that need the last number of a pair, or none at all."""
        self._taken[service.id, country.iso2] = self._initial_stock(service, country) - count

    def _initial_stock(self, service: Service, country: Country) -> int:
        if not self.in_stock(country):
            return 0
        drawn = self._hash("stock", service.id, country.iso2)
        if self._popular(service, country):
            return 50 + drawn % 950
        return 0 if drawn % 5 == 0 else drawn // 5 % 200

    def _popular(self, service: Service, country: Country) -> bool:
        return service.id in self._popular_services and country.iso2 in self._popular_countries

    def _hash(self, *parts: str) -> int:
        text = "\n".join((str(self._seed), *parts))
        return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big")


@lru_cache(maxsize=8)
def _service_by_id(seed: int) -> dict[str, Service]:
    return {service.id: service for service in _services(seed)}


@lru_cache(maxsize=8)
def _services(seed: int) -> tuple[Service, ...]:
    """The well-known ones in a fixed order, then as many made-up ones as are missing."""
    pairs = list(product(FIRST_WORDS, SECOND_WORDS))
    random.Random(seed).shuffle(pairs)  # noqa: S311  a repeatable shuffle, not a secret
    made_up = (
        Service(f"{first}-{second}".lower(), f"{first} {second}", category)
        for first, (second, category) in pairs
    )
    missing = SERVICE_COUNT - len(KNOWN_SERVICES)
    return (
        *KNOWN_SERVICES,
        *(service for service, _ in zip(made_up, range(missing), strict=False)),
    )
