"""The store: models (one file an aggregate), legal state transitions, queries, sessions, blobs.

Owns what is true. Knows nothing of HTTP, Celery, pixels or networks.
"""
