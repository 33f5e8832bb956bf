"""The official score of WideSearch (arXiv 2508.07999), built in.

An answer's text and a `scoring.Gold` go in, seven numbers come out: the
official scorer's, to the last digit, also where it errs. `reading` makes typed
tables of texts, `cells` holds the rules for one cell, `asking` what a judge is
asked, `scoring` puts them together; `cases` and `released` read and write files
and name every line that they skip.
"""
