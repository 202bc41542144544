"""What this process can do, and how work is done in it: the map.

Nothing here knows what is computed.

machine       what a plan may count on: exact products, compiled kernels, formats, threads
workers       the one way to share work out
standing        teams that wait for the next call
team            threads that run torch in one thread each, started together
jobs            items that several threads work off, their results and failures
kernels       whether compiled kernels serve in this process; what is done where they do not
loading       kernels that come into memory beside the calls which want them
  loader          the thread that brings them
  aside           what is said of that, and when
  apart           they are compiled in a process of their own; compiling: what that does
  marks           which of them lie on disk, told without Numba
device_kernels  whether kernels of Triton serve on a device
gpu           what they can count on there
jit             Numba compilation as this package wants it
kernel_cache    what was compiled, on disk, checked
locks         a lock that a forked child finds open
lazily        attributes found when they are first asked for
forks         a fork waits for imports and compilations under way
arrays        types of arrays that kernels take
transforms    torch's private names
"""

from janelia_core.ml._runtime import forks as forks  # which waits from now on
