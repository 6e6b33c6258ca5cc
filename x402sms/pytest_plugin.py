"""Fixtures for the tests of what is built on x402sms."""

from __future__ import annotations
