"""The command line: words in, words out.

May import: everything, when a command needs it.
"""
