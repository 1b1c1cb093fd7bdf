"""Migrations of the history's tables, applied by Alembic."""
