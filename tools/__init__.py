"""The book's commands: `python3 tools` lists them."""
