"""The SPIFFE library for Python, as it is on PyPI, against the socket given: fetches, watches and validates.

Prints one JSON object; exits with an error if anything is not as it should be.
"""
import json
import sys
import threading

from cryptography.hazmat.primitives import serialization
from spiffe import JwtSource, WorkloadApiClient, X509Source

socket, renewals = "unix:" + sys.argv[1], int(sys.argv[2])
PATIENCE = 30

with X509Source(socket_path=socket, timeout_in_seconds=PATIENCE) as source:
    renewed = threading.Semaphore(0)
    source.subscribe_for_updates(renewed.release)
    serials = [source.svid.leaf.serial_number]
    while len(serials) <= renewals:
        assert renewed.acquire(timeout=PATIENCE), "no renewal came"
        serial = source.svid.leaf.serial_number
        if serial not in serials:
            serials.append(serial)
    svid = source.svid
    key = svid.private_key.public_key()
    form = (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    assert key.public_bytes(*form) == svid.leaf.public_key().public_bytes(*form), "key and leaf differ"
    domain = svid.spiffe_id.trust_domain
    authorities = source.get_bundle_for_trust_domain(domain).x509_authorities

with JwtSource(socket_path=socket, timeout_in_seconds=PATIENCE) as source:
    token = source.fetch_svid(audience={"reports"})
    bundle = source.get_bundle_for_trust_domain(token.spiffe_id.trust_domain)

client = WorkloadApiClient(socket_path=socket)
judged = client.validate_jwt_svid(token=token.token, audience="reports")
try:
    client.validate_jwt_svid(token=token.token, audience="billing")
    sys.exit("a token for others was taken")
except Exception as error:
    refusal = str(error)
client.close()

print(json.dumps({
    "spiffe_id": str(svid.spiffe_id),
    "renewals": len(serials) - 1,
    "authorities": len(authorities),
    "jwt": str(token.spiffe_id),
    "audience": sorted(token.audience),
    "judged": str(judged.spiffe_id),
    "keys": len(bundle.jwt_authorities),
    "refusal": refusal,
}))
