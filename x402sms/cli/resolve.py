"""From what people write to what the service calls it. Every lookup is a paid call, and says so."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from x402sms.cli.run import Run
from x402sms.errors import CountryNotFound, ServiceNotFound, X402SMSError


def country_code(run: Run, text: str) -> str:
    """The two-letter code of a country written as a code (`GB`, `uk`) or by its name.

    Raises ValueError for numbers, CountryNotFound with near names for a name nobody has.
    """
    from x402sms.text import one_line
    from x402sms.virtualsms.names import find, is_iso2, normalise_country

    written = normalise_country(text)
    if is_iso2(written):
        return written
    run.out.note(f"looking up {one_line(written, 40)!r} in the list of countries: one paid call")
    countries = run.client.countries.list()
    try:
        return find(written, [(country.iso2, country.name) for country in countries])
    except LookupError as error:
        advice = _did_you_mean(list(error.args), "countries")
    raise CountryNotFound(f"no country is called {one_line(written, 40)!r}. {advice}")


@contextmanager
def near_services(run: Run, service: str) -> Iterator[None]:
    """Where the service is unknown, the error names those that are written alike."""
    try:
        yield
    except ServiceNotFound as error:
        error.add_note(_near(run, service))
        raise


def _near(run: Run, service: str) -> str:
    from x402sms.virtualsms.names import suggest

    run.out.note("looking for near names in the list of services: one paid call")
    try:
        services = run.client.services.list()
    except X402SMSError:
        services = ()  # the first error is the one to tell
    near = suggest(service, ((known.id, known.name) for known in services))
    return _did_you_mean(near, "services")


def _did_you_mean(near: list[str], listing: str) -> str:
    if near:
        return f"Did you mean {', '.join(near)}?"
    return f"`x402sms {listing}` lists all there are"
