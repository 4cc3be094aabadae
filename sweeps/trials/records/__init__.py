"""What is recorded of a study's trials and teacher, and the files of these records."""
