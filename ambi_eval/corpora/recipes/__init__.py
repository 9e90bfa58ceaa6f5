"""A module for each corpus: facts about it (`CORPUS`), and the function that prepares it (`prepare`)."""
