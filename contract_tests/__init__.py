"""Contract tests: does a server that claims to speak openapi.yaml do so, and would these tests notice if it did not?"""
