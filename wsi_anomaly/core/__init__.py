"""What every room may use: errors, magnification, safe files, reproducible identity.

``core`` stands below all other rooms and imports none of them.
"""
