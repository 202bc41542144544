"""Exact k-nearest-centre search: the map.

    face        arguments checked before any work
      |
    find        the one door: plans for this machine, then searches
      |
    plan        shapes, budget, machine -> Plan: screen, blocks, bytes      (pure arithmetic)
      |                                                                      plan_tree: what a tree takes
      |
    search      the only loop; composes what follows, block of rows by block of rows, on workers   machine
      |
      |  frame     one look at the data: finite? how large? on a grid?      points: stored values
      |
      |  screen_*  cheap scores with a proven bound -> Candidates           (contract)
      |              "whatever is not listed is farther than `excluded`"
      |              portable   torch operations, any device                packing
      |              dense      product scanned in cache, CPU               dense_frame, dense_products,
      |                                                                     dense_kernels, rounding_kernels, float_bits
      |              tree       boxes walked by packets of rows, CPU        tree_build, tree_kernels, tree_simd,
      |                                                                     tree_values, forest
      |  verify    float64 distances of the candidates, in order            verify_kernels, bounds
      |  settle    overlapping error intervals -> exact comparisons         double_double
      |
      |  a row whose certificate fails climbs the ladder:
      |     screen -> everything within a proven radius -> every centre in float64
      v
    (k, n_smps) indices, and a report for those who watch

reference is the definition of the answer, in plain Python. Stages do not import each other; only search does.
"""
