"""CUDA implementations of `lowbit.kernels.selection`, in Triton: nothing here is imported before a CUDA tensor comes.

`select` puts the launches in order, `_layout` says where things stand, and the kernels are in `_passes` (over all entries),
`_steps` (one program a segment) and `_order` (candidates into outputs). `compilation` compiles them without a device,
`traffic` counts the bytes they move.
"""
