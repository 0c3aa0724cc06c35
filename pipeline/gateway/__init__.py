"""The HTTP face: Stripe's meters, events, plans and products, and our own extensions beside them.

A request goes one way::

    server (deadlines, head) → app (limits, keys, bodies) → operations (one row per operation) → its handler → Answer
                                                                                             └→ Problem (any refusal)

``operations.py`` says what an operation is, every resource module has its ``OPERATIONS``, ``routes.py`` puts them in
one table, and nothing else registers a route. The table makes the routes, reads the parameters and writes the OpenAPI
document, so the three cannot differ.
"""
