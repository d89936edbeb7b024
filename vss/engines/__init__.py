"""Where collections live: on this machine (`local`)."""
