"""The two-stage FPN detector, teacher and student alike, in batches of fixed shape."""
