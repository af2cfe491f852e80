"""Every claim of speed and memory, runnable on your machine (`make bench`).

Owns: scripts that measure side by side in one run and print ratios. Refuses: to be imported by the product.
"""
