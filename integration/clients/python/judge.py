"""Two JOSE implementations judge tokens: joserfc and PyJWT.

Reads `{"jwks": …, "audience": …, "now": …, "algorithms": […], "tokens": […]}` and prints, for each token, what each of
them makes of it: `[[true, true], …]`.
"""
import json
import sys

import jwt as pyjwt
from joserfc import jwt
from joserfc.jwk import KeySet

asked = json.load(sys.stdin)
keys = {key["kid"]: key for key in asked["jwks"]["keys"]}
# `use` is SPIFFE's own here, and unknown to both.
plain = {kid: {name: value for name, value in key.items() if name != "use"} for kid, key in keys.items()}
key_set = KeySet.import_key_set({"keys": list(plain.values())})
audience, now = asked["audience"], asked["now"]
registry = jwt.JWTClaimsRegistry(
    now=now, leeway=0, aud={"essential": True, "value": audience}, exp={"essential": True}, sub={"essential": True})


def joserfc(token):
    try:
        registry.validate(jwt.decode(token, key_set, algorithms=asked["algorithms"]).claims)
        return True
    except Exception:
        return False


def pyjwt_takes(token):
    try:
        header = pyjwt.get_unverified_header(token)
        key = pyjwt.PyJWK(plain[header["kid"]], algorithm=header["alg"])
        options = {"require": ["exp", "aud", "sub"]}
        pyjwt.decode(token, key, algorithms=asked["algorithms"], audience=audience, options=options)
        return True
    except Exception:
        return False


print(json.dumps([[joserfc(token), pyjwt_takes(token)] for token in asked["tokens"]]))
