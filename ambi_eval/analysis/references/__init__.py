"""The references of a score: trivial predictors, supervised models and human raters."""
