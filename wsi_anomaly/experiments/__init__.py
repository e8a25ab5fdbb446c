"""The demo, and the paper's protocols and tables: what needs every room."""
