"""CLEVRER's questions: language, programs, candidates, sampling, and the table that ALOE reads."""
