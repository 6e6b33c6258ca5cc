"""The 18 tools of the API reference: each one call of the service, under the reference's name."""

from __future__ import annotations

from x402sms.mcp_server import inputs, results
from x402sms.mcp_server.desk import Job
from x402sms.mcp_server.request import Request
from x402sms.virtualsms import calls
from x402sms.virtualsms.names import matches

# --- discovery


async def list_services(request: Request, given: inputs.Search) -> results.Services:
    known = await request.sms.services.list()
    found = [each for each in known if matches(given.search or "", each.id, each.name)]
    return results.Services.of(found, limit=given.limit, total=len(known))


async def list_countries(request: Request, given: inputs.Search) -> results.Countries:
    known = await request.sms.countries.list()
    found = [each for each in known if matches(given.search or "", each.iso2, each.name)]
    return results.Countries.of(found, limit=given.limit, total=len(known))


async def find_cheapest(request: Request, given: inputs.OfService) -> results.Cheapest:
    offer = await request.sms.services.cheapest(given.service)
    return results.Cheapest(offer=results.Offer.of(offer))


async def country_pricing(request: Request, given: inputs.OffersInCountry) -> results.Offers:
    known = await request.sms.countries.pricing(given.country)
    found = [each for each in known if matches(given.search or "", each.service or "", "")]
    return results.Offers.of(found, limit=given.limit, total=len(known))


async def service_availability(request: Request, given: inputs.OffersOfService) -> results.Offers:
    known = await request.sms.services.availability(given.service)
    return results.Offers.of(list(known), limit=given.limit, total=len(known))


# --- account


async def get_balance(request: Request, given: inputs.Nothing) -> results.Balance:
    balance = await request.sms.account.balance()
    return results.Balance(balance=balance.balance, currency=balance.currency)


async def get_profile(request: Request, given: inputs.Nothing) -> results.Profile:
    profile = await request.sms.account.profile()
    return results.Profile(email=profile.email, balance=profile.balance, plan=profile.plan)


async def get_stats(request: Request, given: inputs.Nothing) -> results.Stats:
    stats = await request.sms.account.stats()
    return results.Stats(lifetime_orders=stats.lifetime_orders, lifetime_spend=stats.lifetime_spend)


async def list_transactions(request: Request, given: inputs.Paged) -> results.Transactions:
    call = calls.list_transactions(given.page, per_page=given.limit)
    return results.Transactions.of(await request.sms.call(call))


# --- orders


async def create_order(request: Request, given: inputs.CreateOrder) -> results.Order:
    order = await request.sms.orders.create(
        given.service,
        given.country,
        rental_hours=given.rental_hours,
        max_price=given.max_price,
        intent=given.intent,
    )
    return results.Order.of(order)


async def get_order(request: Request, given: inputs.OfOrder) -> results.Order:
    return results.Order.of(await request.sms.orders.get(given.order_id))


async def list_orders(request: Request, given: inputs.OrdersPage) -> results.Orders:
    call = calls.list_orders(given.page, status=given.status, per_page=given.limit)
    return results.Orders.of(await request.sms.call(call))


async def wait_for_sms(request: Request, given: inputs.WaitForSms) -> results.Received:
    async with request.ticking(given.timeout_seconds, lambda: "waiting for an SMS"):
        sms = await request.sms.orders.wait_for_sms(given.order_id, given.timeout_seconds)
    return results.Received.of(given.order_id, sms)


async def swap_order(request: Request, given: inputs.OfOrder) -> results.Order:
    if (job := request.desk.of_order(given.order_id)) is not None:
        raise ValueError(
            f"the order {given.order_id} is of {job.id}, which would not hear of a new number; "
            "nothing was done. Start a job with max_swaps, or end this one with cancel_order"
        )
    return results.Order.of(await request.sms.orders.swap(given.order_id))


async def cancel_order(request: Request, given: inputs.OfOrder) -> results.Cancelled:
    job = request.desk.of_order(given.order_id)
    if job is not None:
        ended = await _end(request, job, given.order_id)
        if ended is not None:
            return ended
    cancelled = await request.sms.orders.cancel(given.order_id)
    return results.Cancelled(
        order_id=given.order_id,
        success=cancelled.success,
        status=str(cancelled.status),
        refund_amount=cancelled.refund_amount,
    )


async def _end(request: Request, job: Job, order_id: str) -> results.Cancelled | None:
    """The end of a job, which cancels its own order. None: its order is still to be cancelled."""
    job.stop()
    async with request.ticking(inputs.DEFAULT_WAIT, lambda: "cancelling the order"):
        await job.ended_within(inputs.DEFAULT_WAIT)
    refund = job.verification.refunded if job.cancelled else None
    if job.cancelled:
        status = "cancelled"
    elif not job.over.is_set():
        status = "cancelling"  # the service holds it for a while yet; the job goes on trying
    elif job.code is not None:
        status = str(job.code.order.status)
    else:
        return None
    return results.Cancelled(
        order_id=order_id, success=bool(job.cancelled), status=status, refund_amount=refund
    )


async def confirm_order(request: Request, given: inputs.OfOrder) -> results.Order:
    return results.Order.of(await request.sms.orders.confirm(given.order_id))


async def extend_rental(request: Request, given: inputs.ExtendRental) -> results.Order:
    if given.max_price is None and request.sms.books is None:
        raise ValueError("give max_price; nothing was bought")
    order = await request.sms.orders.extend(
        given.order_id, given.hours, max_price=given.max_price, intent=given.intent
    )
    return results.Order.of(order)


async def release_rental(request: Request, given: inputs.OfOrder) -> results.Order:
    return results.Order.of(await request.sms.orders.release(given.order_id))
