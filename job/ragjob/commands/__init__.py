"""One object for each command, made from settings. It can only be made if what the command needs is there.

Each has a `name`, is made by `of(settings)`, checked by `plan()` and carried out by `execute(observe)`.
"""
