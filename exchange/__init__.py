"""What is exchanged with the hospital's archives: DICOM objects and FHIR made of results, and the ways to a peer.

Owns speaking with peers as their client (C-ECHO, C-STORE, C-FIND, C-GET; STOW-RS, QIDO-RS, WADO-RS) and gathering what
goes out. Refuses to decide that something goes out: web and worker do, because a person or a setting said so.
"""
