"""The demo: generated orders, two workers, a windowed job, files; nothing to install or to start before."""

from .run import run_demo

__all__ = ["run_demo"]
