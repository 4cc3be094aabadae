"""The two-stage FPN detector of teachers and students, in batches of fixed shape."""
