"""JSON as parse_json gives it, and answers that are almost right."""

from __future__ import annotations

from decimal import Decimal

from hypothesis import strategies as st

FIELDS = [
    "order_id",
    "id",
    "service_id",
    "service",
    "country_id",
    "country",
    "iso2",
    "name",
    "category",
    "price",
    "price_charged",
    "stock",
    "in_stock",
    "raw_stock",
    "status",
    "phone_number",
    "expires_at",
    "created_at",
    "rules",
    "messages",
    "sender",
    "content",
    "full_text",
    "code",
    "text",
    "received_at",
    "sms_received",
    "success",
    "refund_amount",
    "balance",
    "currency",
    "email",
    "plan",
    "lifetime_orders",
    "lifetime_spend",
    "data",
    "items",
    "results",
    "orders",
    "transactions",
    "page",
    "per_page",
    "total",
    "next_page",
    "has_more",
    "type",
    "amount",
    "cancel_cooldown_seconds",
]

texts = st.text(st.characters(), max_size=20)  # st.characters() includes lone surrogates
scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.decimals(allow_nan=False, allow_infinity=False).filter(lambda d: abs(d.adjusted()) < 400)
    | texts
    | st.sampled_from(("waiting", "received", "0.18", "2026-11-01T10:00:00Z", "+447700900123"))
)
keys = st.sampled_from(FIELDS) | texts
json_values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=8),
    max_leaves=25,
)
prices = st.decimals(min_value=0, max_value=Decimal(10**9), places=6)
