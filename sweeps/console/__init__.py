"""What a study prints: progress display and messages."""
