"""The cost of answers: money at a paid service, with a limit, and floating-point operations."""
