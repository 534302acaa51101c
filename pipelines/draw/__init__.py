"""Drawings of a planned graph: for a terminal, as Mermaid, as SVG."""
