"""``hkd data``: the command, its options, and one parser for each data set."""
