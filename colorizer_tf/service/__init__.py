"""The service: a page to drop photos on, and an address for programs."""

from colorizer_tf.service.app import build_app, serve

__all__ = ["build_app", "serve"]
