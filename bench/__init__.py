"""Measurements: Tiercast beside what a user would otherwise build, at scale, and beside hanging actions."""
