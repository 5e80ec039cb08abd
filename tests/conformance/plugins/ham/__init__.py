__all__ = ["spam"]
