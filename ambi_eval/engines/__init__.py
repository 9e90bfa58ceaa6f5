"""What runs a model: each engine answers jobs."""
