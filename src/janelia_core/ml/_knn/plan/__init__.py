"""What a search will do, and why: the map.

plan        shapes, machine, memory -> Plan: screen, blocks, bytes promised     (pure arithmetic; no tensor is touched)
"""
