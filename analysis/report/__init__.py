"""The results of a study as an HTML page, tables, sentences and JSON. Nothing here computes a result."""
