//! Envoy puts a JWT-SVID into the header of a program that knows nothing of tokens, and renews it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use envoy_configs::{Host, Remote};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use integration::envoy::Envoy;
use integration::mesh::{Way, comes_to, remote_entry};
use integration::remote::Door;
use integration::scratch::Scratch;
use integration::seats::Seats;
use integration::server::{Options, Server};
use integration::{http as calls, poll, ports};
use spiffe::{JwtSvid, TrustDomain, WorkloadApiClient};
use tokio::net::TcpListener;

const WEB: &str = "spiffe://example.org/web";
const AUDIENCE: &str = "https://reports.example.org";
const PATIENCE: Duration = Duration::from_secs(20);

/// A service that says what came in `Authorization`.
async fn service(listen: SocketAddr) {
    let listener = TcpListener::bind(listen).await.unwrap();
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let service = service_fn(async |request: http::Request<Incoming>| {
            let values = request.headers().get_all("authorization").iter();
            let all: Vec<_> = values.filter_map(|value| value.to_str().ok()).collect();
            Ok::<_, Infallible>(http::Response::new(Full::new(Bytes::from(all.join("|")))))
        });
        let http1 = hyper::server::conn::http1::Builder::new();
        let connection = http1.serve_connection(TokioIo::new(stream), service);
        tokio::spawn(async move { connection.await.map(drop) });
    }
}

/// Where Envoy asks: the address of the cluster, and what else it says.
struct Asked {
    address: String,
    more: String,
}

impl Asked {
    fn socket(path: &Path) -> Self {
        Self { address: format!("pipe: {{ path: \"{}\" }}", path.display()), more: String::new() }
    }

    fn network(remote: &Remote) -> Self {
        let Remote { host: Host { host, port }, certificate_chain, private_key, roots } = remote;
        let [chain, key, roots] = [certificate_chain, private_key, roots].map(|path| path.display());
        let more = format!(
            r#"
    transport_socket:
      name: envoy.transport_sockets.tls
      typed_config:
        "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext
        common_tls_context:
          tls_params: {{ tls_minimum_protocol_version: TLSv1_3, tls_maximum_protocol_version: TLSv1_3 }}
          tls_certificates: [{{ certificate_chain: {{ filename: "{chain}" }}, private_key: {{ filename: "{key}" }} }}]
          validation_context:
            trusted_ca: {{ filename: "{roots}" }}
            match_typed_subject_alt_names: [{{ san_type: URI, matcher: {{ exact: "spiffe://example.org/countersign/server" }} }}]"#
        );
        Self { address: format!("socket_address: {{ address: {host}, port_value: {port} }}"), more }
    }
}

const STREAM: &str = "api_type: DELTA_GRPC, grpc_services: [{ envoy_grpc: { cluster_name: sds } }]";
const POLL: &str = "api_type: REST, cluster_names: [sds], refresh_delay: 0.5s";

/// An Envoy between the program and the service, which adds the token.
fn bootstrap(admin: &Path, asked: &Asked, how: &str, program: SocketAddr, service: SocketAddr) -> String {
    format!(
        r#"
admin: {{ address: {{ pipe: {{ path: "{admin}" }} }} }}
node: {{ id: injector, cluster: web }}
static_resources:
  listeners:
  - name: egress
    address: {{ socket_address: {{ address: 127.0.0.1, port_value: {program} }} }}
    filter_chains:
    - filters:
      - name: http
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: egress
          route_config: {{ virtual_hosts: [{{ name: all, domains: ["*"], routes: [{{ match: {{ prefix: / }}, route: {{ cluster: service }} }}] }}] }}
          http_filters:
          - name: injector
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.credential_injector.v3.CredentialInjector
              overwrite: true
              credential:
                name: envoy.http.injected_credentials.generic
                typed_config:
                  "@type": type.googleapis.com/envoy.extensions.http.injected_credentials.generic.v3.Generic
                  header: Authorization
                  header_value_prefix: "Bearer "
                  credential:
                    name: "jwt:{AUDIENCE}"
                    sds_config:
                      resource_api_version: V3
                      api_config_source: {{ transport_api_version: V3, {how} }}
          - name: router
            typed_config: {{ "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router }}
  clusters:
  - name: service
    type: STATIC
    load_assignment: {{ cluster_name: service, endpoints: [{{ lb_endpoints: [{{ endpoint: {{ address: {{ socket_address: {{ address: 127.0.0.1, port_value: {service} }} }} }} }}] }}] }}
  - name: sds
    type: STATIC
    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        explicit_http_config: {{ http2_protocol_options: {{}} }}
    load_assignment: {{ cluster_name: sds, endpoints: [{{ lb_endpoints: [{{ endpoint: {{ address: {{ {address} }} }} }}] }}] }}{more}
"#,
        admin = admin.display(),
        address = asked.address,
        more = asked.more,
        program = program.port(),
        service = service.port(),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_knows_nothing_of_tokens_is_known_by_one() {
    // Three lifetimes of a token.
    injects(Way::Socket, STREAM, 4).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_envoy_that_polls_by_rest_has_its_token_renewed() {
    injects(Way::Socket, POLL, 3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_envoy_that_comes_over_the_network_has_its_token_renewed() {
    injects(Way::Network, STREAM, 3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_envoy_that_polls_over_the_network_has_its_token_renewed() {
    injects(Way::Network, POLL, 3).await;
}

/// The program is known by one token after the other, `tokens` of them, whichever way Envoy asks.
async fn injects(way: Way, how: &str, tokens: usize) {
    let scratch = Scratch::new().unwrap();
    let door = Door::new(&scratch).unwrap();
    let more = format!("authority: {{jwt_lifetime: 6s}}\n{}", door.config(""));
    let server = Server::start(&scratch, "server", &Options { more, ..Options::default() }).await.unwrap();
    let seats = Seats::here();
    let seat = seats.take(&scratch, 0).unwrap();
    let asked = match way {
        Way::Socket => {
            server.add_entry(WEB, &[&seat.selector]).unwrap();
            Asked::socket(&server.socket())
        }
        Way::Network => {
            server.write_documents("web", &remote_entry(WEB, "web")).unwrap();
            let dir = scratch.dir("proxies", None).unwrap();
            Asked::network(&comes_to(&door, &server, &dir, "web").unwrap())
        }
    };
    server.add_entry("spiffe://example.org/reports", &[&seats.own_selector().unwrap()]).unwrap();
    let (program, reports) = (ports::free().unwrap(), ports::free().unwrap());
    tokio::spawn(service(reports));
    let admin = Envoy::admin_socket(&scratch, "injector");
    let text = bootstrap(&admin, &asked, how, program, reports);
    let mut envoy = Envoy::start(&scratch, "injector", &seat, &text).unwrap();
    envoy.live().await.unwrap();

    // What the program itself writes is not believed: `overwrite`.
    let call = async || {
        let answer = calls::get_tcp(program, "/", &[("authorization", "Bearer mine")]).await.unwrap();
        assert!(answer.status().is_success(), "{answer:?}\n{}", envoy.tail());
        String::from_utf8(answer.body().to_vec()).unwrap()
    };
    let injected = async || {
        let call = calls::get_tcp(program, "/", &[]).await.ok()?;
        call.status().is_success().then_some(())
    };
    poll::until("the first token", PATIENCE, injected).await.unwrap();

    let client = WorkloadApiClient::connect_to(format!("unix:{}", server.socket().display())).await.unwrap();
    let domain = TrustDomain::new("example.org").unwrap();
    let mut seen = BTreeSet::new();
    let start = std::time::Instant::now();
    // None that has expired is ever seen.
    while seen.len() < tokens {
        assert!(start.elapsed() < Duration::from_secs(60), "renewed {} times", seen.len());
        let value = call().await;
        let token = value.strip_prefix("Bearer ").expect("one token, ours").to_owned();
        if seen.insert(token.clone()) {
            let bundles = client.fetch_jwt_bundles().await.unwrap();
            let svid = JwtSvid::parse_and_validate(&token, &bundles, &[AUDIENCE]).unwrap();
            assert_eq!(svid.spiffe_id().to_string(), WEB);
            assert_eq!(svid.audience(), [AUDIENCE]);
            assert!(bundles.get(&domain).is_some());
            client.validate_jwt_token(AUDIENCE, &token).await.unwrap();
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let stats = envoy.stats().await.unwrap();
    assert_eq!(stats.sum("sds.", ".update_rejected"), 0);
}
