"""The onboarding of a team, played on a real repository: ``python -m integration.demo``.

Not a template for production: its Django settings are made for one person at one terminal.
"""
