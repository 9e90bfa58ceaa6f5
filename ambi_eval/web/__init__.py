"""What the report and the leaderboard's pages share."""
