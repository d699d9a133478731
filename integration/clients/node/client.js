// `spiffe.js`, which the docs show, against the server: fetches, watches, shakes hands and validates.
//
// Prints one JSON object; exits with an error if anything is not as it should be.

const assert = require("node:assert");
const tls = require("node:tls");
const { X509Certificate, createPrivateKey } = require("node:crypto");
const { once } = require("node:events");
const { judge, token, watch } = require("./spiffe.js");

const renewals = Number(process.argv[2]);
setTimeout(() => { throw new Error("too late"); }, 60_000).unref();

// Both ends with the identity, each checking the other under its bundle.
async function shake({ cert, key, ca, spiffeId }) {
  const server = tls.createServer({ cert, key, ca, requestCert: true, rejectUnauthorized: true, minVersion: "TLSv1.3" });
  server.on("secureConnection", (socket) => {
    assert(socket.authorized);
    socket.end(socket.getPeerCertificate().subjectaltname);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  // An X509-SVID has no host name: its URI is what is checked.
  const checkServerIdentity = (_, { subjectaltname }) =>
    subjectaltname === `URI:${spiffeId}` ? undefined : new Error(`it is ${subjectaltname}`);
  const socket = tls.connect({ port: server.address().port, host: "127.0.0.1", cert, key, ca, checkServerIdentity });
  let seen = "";
  for await (const chunk of socket) seen += chunk;
  server.close();
  return seen;
}

async function main() {
  const serials = new Set();
  const last = await new Promise((resolve) => {
    watch((identity) => {
      const leaf = new X509Certificate(identity.cert);
      assert(leaf.checkPrivateKey(createPrivateKey(identity.key)), "key and leaf differ");
      serials.add(leaf.serialNumber);
      if (serials.size > renewals) resolve(identity);
    });
  });
  const jwt = await token("reports");
  const refusal = await judge("billing", jwt).then(() => assert.fail("a token for others was taken"), (error) => error);
  console.log(JSON.stringify({
    spiffe_id: last.spiffeId,
    renewals: serials.size - 1,
    peer: await shake(last),
    judged: await judge("reports", jwt),
    refusal: refusal.details,
  }));
  process.exit(0);
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
