"""The HTTP face, over real connections to a real server process."""
