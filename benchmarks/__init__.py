"""What paying costs, beside the official client: `make bench`. No test asserts any of it."""
