"""A broker over gRPC's C core (grpcio, as it is on PyPI): refers to the process given, on the socket for brokers.

Prints one JSON object: what it was told, or the status.
"""
import json
import sys

import grpc
from cryptography.hazmat.primitives import serialization
from spiffe import X509Source

api, socket, pid, name = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]


def pem(certificates):
    return b"".join(one.public_bytes(serialization.Encoding.PEM) for one in certificates)


def varint(number):
    return bytes([number]) if number < 128 else bytes([number & 127 | 128]) + varint(number >> 7)


def field(number, content):
    return varint(number << 3 | 2) + varint(len(content)) + content


# A broker is a workload first.
with X509Source(socket_path="unix:" + api, timeout_in_seconds=30) as source:
    context = source.get_x509_context()
    svid = context.default_svid
    bundle = source.get_bundle_for_trust_domain(svid.spiffe_id.trust_domain)
form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
credentials = grpc.ssl_channel_credentials(
    root_certificates=pem(bundle.x509_authorities),
    private_key=svid.private_key.private_bytes(*form),
    certificate_chain=pem(svid.cert_chain),
)
# What the certificate of the server must have, in place of the socket's path. The core looks at no SPIFFE ID.
options = [("grpc.ssl_target_name_override", name)] if name else []
reference = field(1, b"type.googleapis.com/spiffe.broker.WorkloadPIDReference") + field(2, b"\x08" + varint(pid))
said = {}
with grpc.secure_channel("unix:" + socket, credentials, options) as channel:
    subscribe = channel.unary_stream("/spiffe.broker.API/SubscribeToX509SVID", bytes, bytes)
    try:
        stream = subscribe(field(1, field(1, reference)), metadata=[("broker.spiffe.io", "true")], timeout=20)
        said["has_web"] = b"spiffe://example.org/web" in next(iter(stream))
        stream.cancel()
    except grpc.RpcError as error:
        said["code"], said["details"] = error.code().name, error.details()
print(json.dumps(said))
