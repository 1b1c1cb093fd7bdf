"""`tiercast up`: everything on one machine, with a sample event, for trying it and for small installations."""
