"""The VirtualSMS service, described: models, calls, problems. Pure, nothing here does I/O."""
