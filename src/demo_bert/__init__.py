"""demo_bert takes text to a trained BERT, and a trained BERT to an answer."""

__version__ = "0.1.0"

__all__ = ["__version__"]
