"""Fast paths behind torch.library ops: each has a reference in plain torch, which is its definition.

`selection` has the ops `lowbit::largest_magnitude` and `lowbit::select_largest`. CPU implementations (Numba) follow
`torch.get_num_threads()`; they are compiled at the first call, and found compiled by later processes. CUDA
implementations are in `triton`. `segments` does the same for every layer of a flat tensor at once.
`binary_error` is an inner loop of the estimator study on a CPU, a plain function.
"""
