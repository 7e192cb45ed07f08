"""Written mathematics: read, valued and compared. `verdict` is the way in."""
