"""What several examples report with: figures of scaling, tables as text, axes of a picture.

It knows nothing of the trainer, nor of any example; `examples/` is on the path of who imports it.
"""
