"""Questions for an engine, and the store of its answers."""
