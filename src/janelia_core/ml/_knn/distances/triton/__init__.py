"""Distances of listed pairs on a GPU, in one launch: the map.

pairs       what can be done there, the launch, and which pairs stay in doubt
kernel      a tile of pairs: compensated sums, rounded where their error leaves no doubt
"""
