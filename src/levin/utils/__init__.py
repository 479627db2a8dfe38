"""Small helpers that know nothing of training.

Everything else may import them; they import nothing of levin's but each other.
"""
