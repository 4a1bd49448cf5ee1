"""
The storage for a program with a reactor: runs the blocking half in threads, and caches what it reads.
"""
