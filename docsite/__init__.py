"""The reference in docs/reference, written from the code it describes.

`python -m docsite` writes it, and a test holds what is committed against what it would write. Why it is committed and
not made when the site is built: docs/decisions/generated-reference.md.
"""
