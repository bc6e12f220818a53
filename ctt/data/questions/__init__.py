"""CLEVRER's questions: language, programs, candidates, sampling, and the question table of ALOE."""
