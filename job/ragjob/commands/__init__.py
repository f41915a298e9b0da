"""One object for each command, made from settings: what it needs is there, or it can't be made.

Each has a `name`, is made by `of(settings)`, checked by `plan()` and done by `execute(observe)`.
"""
