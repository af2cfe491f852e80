"""Training: scenarios, data sets and splits, runs, evaluation, and the export to an artefact.

Owns: everything between a folder of labelled slices and a `*.neurosight` file. Refuses: databases, web and queues; it
reports progress through `training.recorder.Recorder`, which others implement.
"""
