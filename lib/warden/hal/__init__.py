"""The only files that touch hardware: stores, root keys, clocks, networks. They import only `warden.errors`."""
