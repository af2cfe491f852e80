"""From prepared pixels to class, probability and heatmap.

Owns: the model artefact (format, writing, loading, verifying), the networks, Grad-CAM, the engines that run the
graph, the predictor that worker and command line share, and `python -m inference`.

Refuses: to know a database, a web server or a queue; to unpickle anything; to load a whole saved Keras model.
TensorFlow is imported only by the modules that build or export a network and by the TensorFlow engine.
"""
