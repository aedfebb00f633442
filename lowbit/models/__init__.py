"""Models: one file each; a frozen recipe whose `build` returns a plain `nn.Module` in full precision."""
