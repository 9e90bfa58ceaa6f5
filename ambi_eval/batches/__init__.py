"""Batch mode: requests that a service answers within a day, at a lower price; what was sent is never sent twice."""
