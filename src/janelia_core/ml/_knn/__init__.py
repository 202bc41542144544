"""Exact k-nearest-centre search: the map.

One way down; what stands further down knows nothing of what is above.

    face            arguments checked before any work
      |
    find            the one door: plans for this machine, then searches
      |
    choose          which screen, by sizes -> Plan; meet: by values, when rows meet centres
      |               plan: shapes, budget, machine -> blocks, bytes           (pure arithmetic; no tensor is touched)
      |
    search          the only loop: block of rows by block of rows, on workers      (asking: made ready for screens)
      |
      |  small         few pairs: one look at all distances, no blocks, no screen
      |  ladder        what a block of rows climbs: lists, a proven radius, every centre (exhaustive)
      |  fold          the same where centres come in parts
      |  screens       cheap scores with a proven bound -> Candidates: what is not listed is farther than `excluded`
      |  verify        float64 order values of the candidates, in order     (exact_order
      |  settle        overlapping error intervals -> exact comparisons     does both)
      v
    (k, n_smps) indices, and a report for those who watch

    brief           small and medium searches of plain tensors: from the call to kernels
    meanwhile       torch operations search until the kernels of a plan are loaded
    kept            centres that many searches are made among: what pays to prepare, and to keep
    among           the same in parts, some of which are gone
    radius          all centres within a radius, by the same screens and stages
    clouds          many small searches at once: the batches of one call
    distances       of what was found, correctly rounded
    trial           a search tried on a few of its rows: which screen runs, and how long it takes
    merge           answers of several searches -> one: centres that come block by block (files larger than memory)
    reference       the definition of the answer, in plain Python

    contract        what stages hand on                 problem         what is asked, in sizes
    metrics         what centres are ordered by         rows            blocks of rows
    answers         where answers go
    data            stored values, and looks at them    arithmetic      numbers with proven errors
"""
