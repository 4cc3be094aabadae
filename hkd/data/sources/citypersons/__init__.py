"""CityPersons: its annotations (official JSON files, .mat, the evaluation server's JSON) and their conversion."""
