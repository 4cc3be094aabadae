"""What a study gives to Ray Tune: its run, and the objects that Tune calls."""
