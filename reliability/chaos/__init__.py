"""Random faults against every way to use rdknotify at once: ``python -m reliability chaos``.

``schedule`` draws the faults from a seed and lets them happen, ``member`` is a client's process, ``watch`` looks on
and reads everything at the end, ``judge`` makes figures of it, ``command`` runs the whole.
"""
