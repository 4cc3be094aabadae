"""The tasks of a study's teacher."""
