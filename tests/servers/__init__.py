"""Real servers on this machine for the tests of kinds."""
