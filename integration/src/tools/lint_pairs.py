"""Lints certificates with pkilint: warnings and errors, one JSON document a certificate, one a line.

A notice is no fault: it says that our key identifiers (160 bits of a SHA-256) are of no method that it knows.
"""
import contextlib
import io
import json
import sys

from pkilint.bin import lint_pkix_cert, lint_pkix_signer_signee_cert_chain


def findings(linter, *files):
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        linter.main(["lint", "-s", "WARNING", "-f", "JSON", "--document-format", "DER", *files])
    return json.loads(said.getvalue())


# Arguments: certificates, each with its issuer behind it, or with "-" if it has none.
pairs = sys.argv[1:]
for subject, issuer in zip(pairs[::2], pairs[1::2]):
    found = findings(lint_pkix_cert, subject)["results"]
    if issuer != "-":
        found += findings(lint_pkix_signer_signee_cert_chain, issuer, subject)["results"]
    print(json.dumps(found))
