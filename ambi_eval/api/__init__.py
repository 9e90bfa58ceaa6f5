"""What `import ambi_eval` offers in Python: load runs, evaluate a model, score predictions."""
