"""What a score is read against: trivial predictors and human raters."""
