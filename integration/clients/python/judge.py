"""Two JOSE implementations judge tokens: joserfc and PyJWT.

Reads `{"jwks": …, "audience": …, "now": …, "algorithms": […], "tokens": […]}` and prints, for each token, what each of
them makes of it: `[[true, true], …]`. Without an audience, as WIT-SVIDs are, none may have one.
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
named = {} if audience is None else {"aud": {"essential": True, "value": audience}}
registry = jwt.JWTClaimsRegistry(now=now, leeway=0, exp={"essential": True}, sub={"essential": True}, **named)


def joserfc(token):
    try:
        claims = jwt.decode(token, key_set, algorithms=asked["algorithms"]).claims
        registry.validate(claims)
        return audience is not None or "aud" not in claims
    except Exception:
        return False


def pyjwt_takes(token):
    try:
        header = pyjwt.get_unverified_header(token)
        key = pyjwt.PyJWK(plain[header["kid"]], algorithm=header["alg"])
        options = {"require": ["exp", "sub", *named]}
        pyjwt.decode(token, key, algorithms=asked["algorithms"], audience=audience, options=options)
        return True
    except Exception:
        return False


print(json.dumps([[joserfc(token), pyjwt_takes(token)] for token in asked["tokens"]]))
