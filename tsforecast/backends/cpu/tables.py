"""Columns of the two tables that tell kernels what a network is: that of layers and links, and that of panels."""

# The table of layers has a row for every run of a cell (``tsforecast.topology``): its sizes (D, H, H in whole vectors,
# width of a row of xh, rows of the weights, width of a row of c, steps, dilation; TAPE: how many steps from
# the last one gradients go back, for which alone c, gates and the like are kept); its places in the packed weights
# (START, START_C: learned h_0 and c_0, -1: none); and its places in the work buffer. DOUT is where the gradient of its
# outputs stands (-1: only the last one counts), SUMMED whether that is added up from several places, else it is what
# the run above has left. CARRIED is where its states stand among those that are carried from window to window. From UP
# on stand the places of what noise needs (``noisy``), -1 without it.
IN, UNITS, PADDED, ROW, DEPTH, STATES, STEPS, DILATION, TAPE = range(9)
W, EXTRA, START, START_C, WH_T, WX_T = range(9, 15)
XH, C, GATES, KEPT, DX, DOUT, SUMMED, CARRIED = range(15, 23)
UP, OUT, OWN_C, MASK = range(23, 27)
N_FIELDS = 27
# Behind the runs, a row for every link: from which run (-1: the window), to which (the number of runs: the head), from
# which column on, whether time runs the other way, and whether it adds to what an earlier link wrote.
SOURCE, TARGET, COLUMN, TURNED, ADDS = range(5)

# A panel is a few vectors of columns of a weight matrix: its place in the packed weights, rows, vectors, which row is
# the bias (as many as there are rows: none), the place of its columns among those of all panels; where its columns
# stand as rows of transposed copies, and how far apart; and the two copies: rows of the panel from, how many (0: no
# copy), place, rows of the copy.
P_AT, P_ROWS, P_VECTORS, P_BIAS, P_COLUMN, P_TO, P_STEP, P_H, P_X = 0, 1, 2, 3, 4, 5, 6, 7, 11
FROM, COUNT, PLACE, HEIGHT, N_PANEL_FIELDS = 0, 1, 2, 3, 15
