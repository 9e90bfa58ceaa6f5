"""What requests to a paid service have cost, and a budget that they must not pass."""
