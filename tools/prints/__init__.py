"""The built site in other forms: one PDF, an EPUB, and a zip that works from a folder."""
