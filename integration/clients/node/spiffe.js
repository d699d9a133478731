// The SPIFFE Workload API by @grpc/grpc-js and @grpc/proto-loader, and nothing else.

const { X509Certificate, createPrivateKey } = require("node:crypto");
const grpc = require("@grpc/grpc-js");
const protoLoader = require("@grpc/proto-loader");

const definition = protoLoader.loadSync(process.env.WORKLOAD_PROTO ?? "workload.proto");
const { SpiffeWorkloadAPI } = grpc.loadPackageDefinition(definition);
const client = new SpiffeWorkloadAPI(process.env.SPIFFE_ENDPOINT_SOCKET, grpc.credentials.createInsecure());
const metadata = new grpc.Metadata();
metadata.set("workload.spiffe.io", "true");

// Certificates in DER, one after the other, in the form that node:tls takes.
function pem(der) {
  const certificates = [];
  for (let rest = der; rest.length; rest = rest.subarray(certificates.at(-1).raw.length)) {
    certificates.push(new X509Certificate(rest));
  }
  return certificates.map(String).join("");
}

// Calls `use` with the default identity, now and after every renewal. It comes again when the server was restarted.
function watch(use) {
  const stream = client.FetchX509SVID({}, metadata);
  stream.on("data", ({ svids: [{ spiffeId, x509Svid, x509SvidKey, bundle }] }) => {
    const key = createPrivateKey({ key: x509SvidKey, format: "der", type: "pkcs8" });
    use({ spiffeId, cert: pem(x509Svid), key: key.export({ format: "pem", type: "pkcs8" }), ca: pem(bundle) });
  });
  stream.on("error", (error) => {
    console.error(`no identity, asked for again in a second: ${error.message}`);
    setTimeout(watch, 1000, use);
  });
}

async function token(audience) {
  const { svids } = await call("FetchJWTSVID", { audience: [audience] });
  return svids[0].svid;
}

// Who the token is of; an error if it is not a good one for this audience.
async function judge(audience, svid) {
  const { spiffeId } = await call("ValidateJWTSVID", { audience, svid });
  return spiffeId;
}

function call(method, request) {
  return new Promise((resolve, reject) => {
    client[method](request, metadata, (error, answer) => (error ? reject(error) : resolve(answer)));
  });
}

module.exports = { watch, token, judge };
