"""Small and medium searches of plain tensors, from the call to kernels, without plan, blocks, ladder, report: the map.

door      the one way in: looks at the tensors once, makes arrays of them, and asks the first way that serves the sizes
question  what every way is told, in arrays and sizes, and what it answers
lanes     few pairs: a look at all of them
book      many rows among few centres: scores in registers; what these leave in doubt, by lanes
few       a few rows among many centres: a pass over these
pieces    rows shared out to threads
"""
