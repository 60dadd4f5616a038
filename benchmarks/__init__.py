"""What the library costs, beside a floor that nobody can go below and beside what others offer.

``nox -s bench`` runs every comparison on the installed wheel, ``python -m benchmarks`` on the checkout.
"""
