"""Where the 0 that leaves a part out was before 0.2: pickles of values look here."""

from gradtx.values.domains import Off as Off
