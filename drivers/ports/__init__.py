"""Ports: serial, pseudo terminal, camera transport."""
