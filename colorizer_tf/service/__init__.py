"""The web service: a page for people, and an API for programs."""

from colorizer_tf.service.app import build_app, serve

__all__ = ["build_app", "serve"]
