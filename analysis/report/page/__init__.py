"""The interactive pages: of one study, and of several."""
