"""One recipe a corpus: what the corpus is (`CORPUS`), and the command that prepares it (`command`)."""
