"""The ways in that are not a browser's: a DICOM listener and a watched folder.

Owns taking what devices send, and the promise of each answer: what is acknowledged is in the blob store and in a row.
Submissions are made by the same functions as the web's. Refuses to look into what was sent any further than to know
which study it belongs to: intake does, and its receipt says what became of it. Never imports web or worker.
"""
