"""A sieve of two meshes: scores in few leading directions, and for who passes, scores over all columns: the map.

offer       the screen as `choose` knows it                       cost: when it is thought of, and what it holds
prepared    both packings, once a look says that they pay         look: at a sample, how many centres would pass
images      points in leading directions, so that bytes hold them well       image_kernels: who makes them
packed      points in bytes, in an order, in tiles or row by row
order       near points side by side, and which tiles are near a block of rows
screen      candidates of rows; the proof of the bound            scan: the kernel that sieves
"""
