"""Broken annotation and detection files, given to the command as a user would give them."""
