"""What people and programs read of a run: the terminal's text, JSON, JUnit. All wording lives here."""
