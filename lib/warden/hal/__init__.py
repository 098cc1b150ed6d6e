"""The only files that touch hardware. They import only `warden.errors`."""
