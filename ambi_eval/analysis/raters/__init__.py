"""Analyses of single raters: scores of single ballots, two-way intervals, true-label models, groups, reliability."""
