"""The ``levin`` command: ``main`` holds the table of commands, every other module is one of them."""
