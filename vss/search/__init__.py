"""A query, step by step; one file a step, each a function over columnar candidates.

plan        for each part of the view: scan the matching rows, or walk the graph
retrieve    the plans carried out and merged
rank        a re-ranker's scores, or the similarity order when it fails or is late
diversify   maximal marginal relevance
recommend   the steps in order
batching    the one owner of loaded models
"""
