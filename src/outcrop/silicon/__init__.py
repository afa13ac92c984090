"""The accelerator: its generations as data. A room for kernel engineers: no server, no database, no PyTorch."""
