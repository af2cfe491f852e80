"""The workers: a Celery application whose tasks claim rows of `work_item` and do them.

Owns processes, leases, retries and the order of work. What is done to pixels stands in imaging and inference; what is
true stands in the database. Refuses to trust a message: it only means that there may be something to do.
"""
