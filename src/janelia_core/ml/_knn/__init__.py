"""Exact k-nearest-centre search: the map.

    face        arguments checked before any work
      |
    find        the one door: plans for this machine (_runtime.machine), then searches
      |
    plan        shapes, budget, machine -> Plan: screen, blocks, bytes      (pure arithmetic)
      |                                                                      plan_tree: what a tree takes
      |
    search      the only loop, block of rows by block of rows, on _runtime.workers
      |
      |  small     few pairs: one look at all distances, no blocks          small_kernels, tournament, canary
      |  ladder    composes what follows for a block of rows
      |  frame     one look at the data: finite? how large? on a grid?      points: stored values
      |                                                                     values, value_kernels: looks at all
      |                                                                     directions: of norm 1, for cosines
      |                                                                     mask: what a row may be answered with
      |                                                                     rows: a block of them
      |                                                                     answers: where they go
      |
      |  screen_*  cheap scores with a proven bound -> Candidates           (contract)
      |              "whatever is not listed is farther than `excluded`"
      |              portable   torch operations, any device                packing
      |              dense      scores compared in registers, CPU           copies, dense_formats, dense_frame,
      |                                                                     rounding_kernels, dense_centres,
      |                                                                     dense_rows, dense_row_kernels,
      |                                                                     dense_kernels, dense_tiles,
      |                                                                     dense_lists, float_bits
      |              tree       boxes walked by packets of rows, CPU        tree_build, tree_order, tree_kernels,
      |                                                                     tree_lists, tree_simd, tree_answer,
      |                                                                     tree_values, forest, crowding
      |  exact_order  composes the next two
      |  verify    float64 order values of the candidates, in order         metrics, bounds, verify_kernels,
      |                                                                     pair_kernels, row_sums
      |  settle    overlapping error intervals -> exact comparisons         settle_kernels, double_double, fused,
      |                                                                     integers
      |
      |  a row whose certificate fails climbs the ladder:
      |     screen, dense in one format after the other (rungs)
      |       -> everything within a proven radius -> every centre in float64   (exhaustive)
      v
    (k, n_smps) indices, and a report for those who watch

distances gives the distances of what was found, correctly rounded: float64 intervals
(pair_sums, pair_kernels), double_double, integers; rounding tells when both ends of an interval round alike.

merge joins the answers of several searches, for centres that come block by block (files larger than memory): find
for each block, then verify and settle between its k best and the k best so far.

reference is the definition of the answer, in plain Python. Stages do not import each other; ladder composes them,
search, merge, exact_order and exhaustive a few.
"""
