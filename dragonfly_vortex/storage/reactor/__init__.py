"""
The storage for a program with a reactor: the blocking half, in threads, and what is remembered between two questions.
"""
