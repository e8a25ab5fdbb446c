"""``view``: results beside their slides in a browser, on this machine only."""
