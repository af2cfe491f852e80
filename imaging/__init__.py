"""Pixels in, pictures out.

`imaging` owns everything between a file as somebody sent it and a grey picture in [0, 1]: telling formats apart by
their content, reading PNG, JPEG, TIFF, BMP and DICOM within stated limits, unpacking archives, geometry, and drawing
heatmaps. It refuses to know databases, queues, networks and models: its functions take paths or bytes plus
:class:`imaging.limits.Limits` and return plain values, so that they can also run in a child process.
"""
