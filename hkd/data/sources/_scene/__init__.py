"""What a generated street scene is made of."""
