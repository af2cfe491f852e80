"""Running NeuroSight: the launcher behind `make up`, the demo, the doctor.

Owns processes, ports, secrets and state folders of one machine. Refuses to hold business rules: it speaks with the
running system over HTTP, as any user does, and reads the database only to look after it.
"""
