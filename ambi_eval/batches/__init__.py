"""Batch mode: a service answers requests within a day, at a lower price; no request is sent twice."""
