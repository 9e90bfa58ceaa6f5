"""A leaderboard that trusts no submission: each one is parsed, checked and scored again before it is shown."""
