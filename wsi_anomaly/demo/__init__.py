"""The demo: its slides, its commands, its honest figures."""
