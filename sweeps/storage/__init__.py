"""Object storage: what a study keeps in a bucket, and the copies of it on a node."""
