"""Choosing deliveries and jobs, for listings, bulk requests and pages."""
