"""How far a study's miss rates can be trusted: resamples of the images, and trainings with other seeds."""
