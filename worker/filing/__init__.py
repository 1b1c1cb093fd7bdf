"""From a settled delivery to its rows in the history: claim, write, and let go only after that is durable."""
