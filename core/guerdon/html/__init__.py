"""A run as one HTML file that opens without a network: figures, curves, alarms, conversations.

`page` puts it together from `facts`, what is read from the store; `result`, `curves`, `rollouts` and `conversation` are
its parts, `chart` draws, `markup` escapes. The main things are there without scripts; style.css and script.js are
written into the file.
"""
