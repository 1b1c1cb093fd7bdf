"""Voucherify's API, as the kinds that answer through it call it."""
