"""Centres in shards, a shard a process of a torch.distributed group: the map.

call        knn of shards, block of rows by block              within: radius, likewise
asked       the arguments of one process, checked
dtensor     knn of DTensors: what of it is to be searched here, and what among the processes of a mesh
session     what both have at hand: checked arguments, the group, what the others have
group       what processes say to each other: votes before anything else, and every byte counted
facts       what all processes must know of each other, and agree on
rounds      blocks of rows, and who is to own which of them
near        blocks of rows whose lists differ in length, in parts that fit
shard       the centres of one process, and the lists that it finds among them
owner       lists of all shards -> one, in the exact order; stored centres are fetched for near-ties alone
measured    distances of who is left, rounded where the centres are
gradients   derivatives, each where its points are
"""
