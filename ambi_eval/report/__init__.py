"""What people look at after a run: one page with every number, and the table of a comparison."""
