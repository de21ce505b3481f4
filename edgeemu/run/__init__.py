"""One run: plan, backend, loop over tokens, decisions and migrations.

May import: everything but `cli`.
"""
