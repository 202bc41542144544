"""What a search will do, and why: the map.

Pure arithmetic; no tensor is touched.

plan        Plan: the screen, who works, blocks, bytes promised; printable
demand      what a screen takes, of time and of memory
budget      what is to be shared, where nobody says
memory      shared out between workers, the screen, verification and the rungs above the screen
"""
