"""log(cosh(x)), its derivatives, and the loss: the map.

function    log_cosh(), LOG_2
loss        log_cosh_loss()                      module: LogCoshLoss
blocks      tensors block by block, on workers
formulas    by torch operations                  kernel: compiled     triton: likewise, on a GPU
constants   of both, printed by a tool
"""
