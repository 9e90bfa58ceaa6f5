"""A leaderboard that believes nothing: what is submitted is checked, parsed and scored again before it is shown."""
