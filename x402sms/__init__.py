"""x402sms: rent a phone number, get its SMS code, pay per call in USDC over x402."""
