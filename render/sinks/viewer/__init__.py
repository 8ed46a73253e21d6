"""The page of `--serve`: live video, mesh, curves and controls in a browser.

`address` says where; `server` runs it; `messages` is what the page receives; `recording` and `replay` are what it can
ask for. `page/` holds the page itself, with the libraries it needs; nothing is loaded from elsewhere.
"""
