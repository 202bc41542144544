"""The portable screen: one float32 product that is an upper bound of the score, by torch operations: the map.

offer       the screen as `choose` knows it                       cost: what it takes of memory
screen      packed centres; candidates of rows; centres within a radius
packing     rows and centres with the columns that pay for all errors
largest     the largest scores of each row
stored      centres that are multiplied as they are stored
"""
