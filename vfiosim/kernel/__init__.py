"""The rules: one file for each kernel file that is mirrored, under the same name. Every function says where it comes from."""

from .unsupported import Unsupported

__all__ = ["Unsupported"]
