"""Search quality under pruners, at equal numbers of epochs."""
