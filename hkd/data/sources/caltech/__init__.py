"""Reader of Caltech's distribution: annotations (.vbb, text), video (.seq), conversion."""
