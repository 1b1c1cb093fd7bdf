"""Operations: bulk requests as objects, with estimate, trial, progress, cancel and result.

`model` has them as values, `requests` is for operators (begin, cancel, continue, list, show), `runner` carries them out
step by step; a worker's drain of the lane `operations/all` calls it.
"""
