"""Another implementation's ES512: a JWT-SVID and a WIT-SVID with a P-521 key of joserfc's own.

Reads `{"claims": {…}}` and prints `{"jwk": {…}, "jwt": "…", "wit": "…"}`: the public key `k`, and a token of each kind
that says the claims.
"""
import json
import sys

from joserfc import jwt
from joserfc.jwk import ECKey

claims = json.load(sys.stdin)["claims"]
key = ECKey.generate_key("P-521", {"kid": "k"})


def token(typ):
    return jwt.encode({"alg": "ES512", "kid": "k", "typ": typ}, claims, key, algorithms=["ES512"])


print(json.dumps({"jwk": key.as_dict(private=False), "jwt": token("JWT"), "wit": token("wit+jwt")}))
