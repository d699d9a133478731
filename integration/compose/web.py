"""A plain program: it calls its neighbour every second, and says who the other side takes it for."""

import time
import urllib.request

while True:
    call = urllib.request.Request("http://127.0.0.1:15001/", headers={"x-peer-spiffe-id": "spiffe://example.org/admin"})
    try:
        with urllib.request.urlopen(call, timeout=5) as answer:
            seen = dict(line.split(": ", 1) for line in answer.read().decode().split("\n") if ": " in line)
            print("api answered; it saw", seen.get("x-peer-spiffe-id"), seen.get("x-forwarded-client-cert"))
    except OSError as error:
        print("api did not answer:", error)
    time.sleep(1)
