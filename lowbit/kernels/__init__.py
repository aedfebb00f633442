"""Fast paths behind torch.library ops: each has a reference in plain torch, which is its definition.

`selection` holds the ops `lowbit::largest_magnitude` and `lowbit::select_largest`. Their CPU implementations (Numba)
follow `torch.get_num_threads()` and are compiled once per machine: the code is cached beside the sources, or where
NUMBA_CACHE_DIR says.
"""
