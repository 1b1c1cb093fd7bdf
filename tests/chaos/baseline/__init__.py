"""The usual set-up, for comparison: a Flask route that calls `.delay`, and Celery tasks at their defaults, on Redis."""
