"""Getting a job its number: the cheapest under the ceiling, or the one it has already."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from x402sms.errors import (
    APIError,
    CountryNotFound,
    IntentConflict,
    NoCodeReceived,
    NoStock,
    OrderExpired,
    PaymentRefused,
    PaymentUnknown,
    RateLimited,
    SpendLimitExceeded,
    UnreadableResponse,
    X402SMSError,
)
from x402sms.money import usdc
from x402sms.text import one_line
from x402sms.virtualsms import calls
from x402sms.virtualsms.calls import Call
from x402sms.virtualsms.effects import (
    Announce,
    Bought,
    Buy,
    Chosen,
    Earlier,
    Effect,
    LeftOut,
    Now,
    Paused,
    Recall,
    Sleep,
    Spent,
    UnixTime,
)
from x402sms.virtualsms.ending import (
    LAST_CALL,
    LONGEST_HOLD,
    PASSING,
    PAUSES,
    End,
    How,
    Moments,
    look,
    standing,
)
from x402sms.virtualsms.job import MOST_NUMBERS, Job, intent_of, left_open, purchase_of, told
from x402sms.virtualsms.models import Offer, Order, OrderStatus
from x402sms.virtualsms.patience import LONGEST_PAUSE, in_doubt, make, wait_out
from x402sms.virtualsms.resolving import (
    affordable,
    find_country,
    find_offers,
    find_service,
    no_stock,
    too_dear,
)

OPENING_SECONDS = 180  # within which a number is to be had, rate limits waited out
FRESH = 30  # seconds: an order that looks older by our clock was not bought just now


def open_job(job: Job, *, resume: bool = False) -> Generator[Effect, Any, None]:
    """Get the job its number; with `resume`, the one that an earlier run bought under its intent.

    Raises SpendLimitExceeded where every offer is dearer, NoStock, ServiceNotFound,
    CountryNotFound; PaymentUnknown where a number may have been paid for and is not to be found.
    """
    if resume and (yield from _resumed(job)):
        return
    if not refunds_are_certain(job):
        raise NoCodeReceived(
            f"an earlier run of this job left an order whose refund is not known, so no other "
            f"number was bought: {'; '.join(told(end) for end in job.ends)}. To buy one all the "
            "same, allow for the loss (max_total, --max-total) or use another intent"
        )
    if not job.numbers_left:
        raise NoCodeReceived(
            f"nothing bought: {MOST_NUMBERS} numbers were bought under the intent "
            f"{job.terms.intent!r} already; use another intent"
        )
    now: float = yield Now()
    yield from next_number(job, until=now + OPENING_SECONDS)


def _resumed(job: Job) -> Generator[Effect, Any, bool]:
    """Whether an earlier run of this job has a number that is still of use."""
    now: float = yield Now()
    until = now + OPENING_SECONDS
    while job.numbers < MOST_NUMBERS:
        earlier = yield from _earlier(job, intent_of(job.terms, job.numbers + 1), until=until)
        if earlier is None or earlier.order_id is None:
            return False  # what was promised and brought nothing is gone on with by buying
        job.numbers += 1
        end = yield from _how_it_stands(earlier.order_id, until=until)
        if job.is_rental and end.order.is_final:
            why = "its time is over, or it was released"
            end = End(How.EXPIRED, end.order, why=why)
        job.paid_before += end.order.price or 0
        if end.how in (How.OPEN, How.RECEIVED):
            yield from hold_number(job, end.order, fresh=False)
            yield Announce(Bought(end.order, resumed=True))
            return True
        job.ends.append(end)
        job.before = job.numbers
    return False


def _earlier(job: Job, intent: str, *, until: float) -> Generator[Effect, Any, Earlier | None]:
    """What an earlier run has under the intent. Raises IntentConflict if that is something else.

    The service may be written by its name, which is looked up only if it is not the id already.
    """
    terms = job.terms
    country = None
    if terms.country is not None:
        country = yield from find_country(terms.country, until=until)
    written = terms.service.strip().lower()
    earlier: Earlier | None = yield Recall(
        intent, purchase_of(written, country, terms.rental_hours)
    )
    if earlier is None or earlier.fits:
        return earlier
    service = yield from find_service(terms.service, until=until)
    earlier = yield Recall(intent, purchase_of(service, country, terms.rental_hours))
    if earlier is None or earlier.fits:
        return earlier
    raise IntentConflict(
        f"the intent {intent!r} was used before to buy something else than "
        f"{purchase_of(service, country, terms.rental_hours)}; nothing was signed. Use another",
        intent=intent,
    )


def _how_it_stands(order_id: str, *, until: float) -> Generator[Effect, Any, End]:
    """An order of an earlier run, by what the service says now."""
    call = _asked_for(order_id)
    try:
        order: Order = yield from make(call, until=until)
    except OrderExpired as error:
        why = one_line(str(error), 300)
        order = Order(order_id=order_id, status=OrderStatus.EXPIRED)
        return End(How.EXPIRED, order, why=f"{why}, and whether that is refunded is not known")
    except BaseException as error:
        error.add_note(left_open(Order(order_id=order_id, status=OrderStatus.WAITING)))
        raise
    return standing(order)


def next_number(job: Job, *, until: float) -> Generator[Effect, Any, None]:
    """Buy the cheapest number that may be had. The countries that were silent are left out."""
    terms = job.terms
    country = None
    if terms.country is not None:
        country = yield from find_country(terms.country, until=until)
    service, offers = yield from find_offers(terms.service, until=until)
    wanted = tuple(offer for offer in offers if offer.country not in job.silent_in)
    refusals: list[_Refusal] = []
    job.numbers += 1
    candidates = affordable(wanted, service, country, terms.max_price)
    for offer in candidates:
        _within_total(job, offer)
        yield Announce(Chosen(offer))
        try:
            presented = any(_was_presented(refusal.error) for refusal in refusals)
            order = yield from _buy(job, service, offer, country, presented=presented, until=until)
        except (NoStock, CountryNotFound) as error:
            refusals.append(_Refusal(offer, error))
            yield Announce(LeftOut(offer.country or "?", one_line(str(error))))
        except (SpendLimitExceeded, PaymentRefused) as error:
            limit = _above_the_ceiling(error)
            if limit is None:
                raise
            refusals.append(_Refusal(offer, error, limit.amount))
            yield Announce(LeftOut(offer.country or "?", "its price is above the ceiling now"))
        else:
            yield from _have(job, order, country)
            return
    raise _nowhere(job, service, country, refusals)


@dataclass(frozen=True, slots=True)
class _Refusal:
    """Why nothing was bought at an offer; `price` (USDC) is one that is above the ceiling."""

    offer: Offer
    error: X402SMSError
    price: Decimal | None = None


def _nowhere(job: Job, service: str, country: str | None, refusals: list[_Refusal]) -> X402SMSError:
    """The error where no offer could be had. What was signed on the way is not kept quiet."""
    for refusal in refusals:
        if isinstance(refusal.error, PaymentRefused):
            return refusal.error
        if isinstance(refusal.error, APIError) and in_doubt(refusal.error):
            return _unknown(refusal.error, intent_of(job.terms, job.numbers))
    dearer = [refusal for refusal in refusals if refusal.price is not None]
    error: X402SMSError = no_stock(service, country, len(refusals))
    if dearer:
        least = min(dearer, key=lambda refusal: refusal.price or 0)
        price, ceiling = least.price or Decimal(0), job.terms.max_price
        where = least.offer.country or "?"
        over = price > ceiling
        error = too_dear(service, where, price, ceiling) if over else _over_total(job, price)
    for refusal in refusals:
        receipt = _receipt_of(refusal.error)
        if receipt is not None:
            error.add_note(
                f"a payment of {usdc(receipt.amount)} USDC was presented and refused: it is not "
                "void before it expires, and counts against your limits"
            )
            break
    return error


def _receipt_of(error: X402SMSError) -> Any:
    """Of a payment that was presented, and not taken by the server's word."""
    return error.receipt if isinstance(error, APIError) else None


def _was_presented(error: X402SMSError) -> bool:
    return isinstance(error, PaymentRefused) or _receipt_of(error) is not None


def _have(job: Job, order: Order, country: str | None) -> Generator[Effect, Any, None]:
    """A number was bought: now to be handed over."""
    if country is not None and order.country not in (None, country):
        job.warnings.append(f"the number is one of {order.country}, not of {country} as asked for")
    if order.phone_number is None:  # the answer left it out
        now: float = yield Now()
        order = (yield from look(order, until=now + OPENING_SECONDS)).order
    yield from hold_number(job, order, fresh=True)
    if job.terms.country is None:
        job.silent_in.add(order.country or "")
    yield Announce(Bought(order))


def may_go_on(job: Job) -> bool:
    """To another number, after one that brought nothing."""
    return job.numbers_left > 0 and refunds_are_certain(job)


def refunds_are_certain(job: Job) -> bool:
    """Of every number so far; or what may be lost by them is allowed for."""
    return all(end.is_certain for end in job.ends) or job.terms.max_total is not None


def _within_total(job: Job, offer: Offer) -> None:
    """What may be lost stays within `max_total`."""
    if offer.price > _ceiling(job):
        raise _over_total(job, offer.price)


def _over_total(job: Job, price: Decimal) -> SpendLimitExceeded:
    most = job.terms.max_total or Decimal(0)
    return SpendLimitExceeded(
        f"no further number bought: with {usdc(job.at_stake)} USDC not known to be refunded "
        f"and {usdc(price)} for this one, it would be more than your {usdc(most)} "
        "(max_total, --max-total)",
        limit="max_total",
        allowed=most,
        spent=job.at_stake,
        amount=price,
    )


def _above_the_ceiling(error: X402SMSError) -> SpendLimitExceeded | None:
    """The price went up between quote and purchase: by the first 402, or a later one."""
    limit = error if isinstance(error, SpendLimitExceeded) else error.__cause__
    ours = isinstance(limit, SpendLimitExceeded) and limit.limit == "max_amount"
    return limit if ours and isinstance(limit, SpendLimitExceeded) else None


def _buy(
    job: Job, service: str, offer: Offer, country: str | None, *, presented: bool, until: float
) -> Generator[Effect, Any, Order]:
    """One order. What interrupts the purchase goes on when it is known what came of it."""
    terms = job.terms
    call = calls.create_order(service, offer.country or "", terms.rental_hours)
    purchase = purchase_of(service, country, terms.rental_hours)
    buying = Buy(call, intent_of(terms, job.numbers), purchase, _ceiling(job))
    before: Decimal = yield Spent()
    try:
        order = yield from _bought(buying, presented=presented, until=until)
    except NoCodeReceived as error:
        if error.order_id is not None and error.cancelled is False:
            # Charged above its ceiling, and to be given back when the service allows it.
            dear = Order(order_id=error.order_id, status=OrderStatus.WAITING, price=error.cost)
            yield from hold_number(job, dear, fresh=False)
        raise
    except (GeneratorExit, X402SMSError):
        raise
    except BaseException as error:
        yield from _find_again(job, buying, error)
        raise
    job.order = order.model_copy(update={"country": order.country or offer.country})
    paid: Decimal = (yield Spent()) - before  # and for looking, where its answer was lost
    price = offer.price if order.price is None or order.price > paid else order.price
    job.paid_for[order.order_id] = max(paid, price)
    job.order = job.order.model_copy(update={"price": price})
    return job.order


def _ceiling(job: Job) -> Decimal:
    """USDC that the next number may cost."""
    terms = job.terms
    left = terms.max_price if terms.max_total is None else terms.max_total - job.at_stake
    return min(terms.max_price, left)


def _bought(buying: Buy, *, presented: bool, until: float) -> Generator[Effect, Any, Order]:
    """Tried again, as the same purchase, where its end is not clear.

    `presented`: its payment was refused in another country before. It may have settled there all
    the same, whatever this one says: a "no" is left to the next, and to the end, to make clear.
    """
    pauses, least = iter(PAUSES), 1.0
    while True:
        try:
            order: Order = yield buying
        except RateLimited as limited:
            yield from wait_out(limited, until=until, least=least)
            least = min(2 * least, LONGEST_PAUSE)
        except (APIError, *PASSING) as error:
            if not (isinstance(error, PASSING) or in_doubt(error)):
                raise
            if presented and isinstance(error, NoStock | CountryNotFound):
                raise
            pause = next(pauses, None)
            now: float = yield Now()
            refused = isinstance(error, PaymentRefused)
            if refused or pause is None or now + pause > until:
                if isinstance(error, APIError) and in_doubt(error):
                    raise _unknown(error, buying.intent) from error
                raise
            yield Announce(Paused(pause, one_line(str(error))))
            yield Sleep(pause)
        else:
            _asked_for(order.order_id)
            return order


def _unknown(error: APIError, intent: str) -> PaymentUnknown:
    """A "no" after a payment that may have settled is no answer to what became of that."""
    receipt = error.receipt
    unknown = PaymentUnknown(
        f"a number was paid for, or may have been, and is not to be found: {error}",
        intent=intent,
        amount=None if receipt is None else receipt.amount,
        nonce=None if receipt is None else receipt.nonce,
        valid_before=None if receipt is None else receipt.valid_before,
    )
    for note in getattr(error, "__notes__", ()):
        unknown.add_note(note)
    return unknown


def _find_again(job: Job, buying: Buy, error: BaseException) -> Generator[Effect, Any, None]:
    """Interrupted while it was bought: what was paid for becomes the job's order, to be closed."""
    earlier: Earlier | None = None
    try:
        earlier = yield Recall(buying.intent, buying.purchase)
        if earlier is not None and earlier.state in ("unknown", "settled"):
            order: Order = yield buying
            _asked_for(order.order_id)
            yield from hold_number(job, order, fresh=True)
            return
    except GeneratorExit:
        raise
    except X402SMSError as second:
        error.add_note(f"{_perhaps_paid(buying)}: {one_line(str(second), 300)}")
    except BaseException as second:
        if job.order is None:
            second.add_note(_perhaps_paid(buying))
        raise
    else:
        if earlier is not None and earlier.state == "reserved":  # the ledger failed us just then
            error.add_note(_perhaps_paid(buying))


def _perhaps_paid(buying: Buy) -> str:
    return (
        f"a number may have been paid for under the intent {buying.intent!r}: the same job with "
        "that intent finds it; paid from a wallet, so does `x402sms recover`"
    )


def _asked_for(order_id: str) -> Call[Order]:
    """The call that reads an order. Raises UnreadableResponse for an id that none can name."""
    try:
        return calls.get_order(order_id)
    except ValueError:
        raise UnreadableResponse(
            f"a number was bought, but the service calls its order {one_line(order_id, 40)!r}, "
            "and no call can name that: it can be neither read nor cancelled"
        ) from None


def hold_number(job: Job, order: Order, *, fresh: bool) -> Generator[Effect, Any, None]:
    """`order` is the job's present one, with the number that is listened to from now on."""
    job.order = order
    job.inbox.number = order.phone_number
    job.no_replacement = False
    now: float = yield Now()
    if fresh and order.created_at is not None:
        # It was created a moment ago: what differs is the clocks.
        here: float = yield UnixTime()
        ahead = order.created_at.timestamp() - here
        job.service_ahead = ahead if ahead > -FRESH else 0
    job.moments = yield from _moments(order, job.service_ahead, now)
    swap_in = yield from _seconds_until(order.swap_available_at, job.service_ahead)
    job.swap_at = now + max(job.terms.swap_after, min(swap_in or 0, LONGEST_HOLD))


def _moments(order: Order, ahead: float, now: float) -> Generator[Effect, Any, Moments]:
    cancel_in = yield from _seconds_until(order.cancel_available_at, ahead)
    if cancel_in is None and order.created_at is not None and order.rules is not None:
        since = yield from _seconds_until(order.created_at, ahead)
        cancel_in = (since or 0) + (order.rules.cancel_cooldown_seconds or 0)
    expires_in = yield from _seconds_until(order.expires_at, ahead)
    if expires_in is not None and expires_in <= LAST_CALL:
        expires_in = (
            None  # by our clock, which must be wrong then: the service has just spoken of it
        )
    return Moments(
        None if cancel_in is None else now + min(cancel_in, LONGEST_HOLD),
        None if expires_in is None else now + expires_in,
    )


def _seconds_until(moment: datetime | None, ahead: float) -> Generator[Effect, Any, float | None]:
    """Of the service's clock; negative for what has passed."""
    if moment is None:
        return None
    here: float = yield UnixTime()
    return moment.timestamp() - (here + ahead)
