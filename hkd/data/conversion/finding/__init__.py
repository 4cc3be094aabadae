"""Where the folders and images of a data set are, and what is done about missing images."""
