"""Anytime-valid statistics from counts: betting e-processes, the sequences that invert them, and ranks.

Valid however often somebody looks (Ville's inequality): under the null an e-process exceeds 1/α ever with probability
α at most. Sources: Waudby-Smith & Ramdas, "Estimating means of bounded random variables by betting" (2023); Ramdas et
al., "Game-theoretic statistics and safe anytime-valid inference" (2023). Everything is vectorised over
problems and costs the same at ten counts and at a billion.
"""
