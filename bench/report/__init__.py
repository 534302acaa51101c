"""From numbers to text, HTML and pictures."""
