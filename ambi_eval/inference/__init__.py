"""What is asked of an engine, and what is kept of its answers."""
