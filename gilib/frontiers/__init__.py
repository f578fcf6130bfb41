"""Where the five nouns end: columns instead of rows, tables, graphs. Imports every wing; nothing imports it."""
