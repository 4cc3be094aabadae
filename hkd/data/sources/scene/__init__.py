"""Parts of a generated street scene: canvas, street, pedestrians, props and their composition."""
