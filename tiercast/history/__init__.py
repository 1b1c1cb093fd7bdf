"""The history: the database (SQLite or PostgreSQL) of what was settled, with its bodies, jobs and attempts."""
