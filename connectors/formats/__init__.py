"""Record formats: how values become columns and columns become values."""

from .base import Decoded, Format
from .json_format import Json
from .raw import Raw
from .text import Text

__all__ = ["Decoded", "Format", "Json", "Raw", "Text"]
