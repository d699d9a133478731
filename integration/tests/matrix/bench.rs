//! One Envoy with a listener for each name, and what becomes of those who come.

use std::net::SocketAddr;

use data_encoding::BASE64;
use integration::envoy::Envoy;
use integration::scratch::Scratch;
use integration::seats::Seats;
use integration::stranger::{Attempt, Credential, call, shown};
use integration::tools::Release;
use integration::{http, ports};
use rcgen::date_time_ymd;
use spiffe_bridge::clock::Clock;
use spiffe_bridge::x509::verify::{Role, verify};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::pki::{Pki, WEB, leaf_params, unix};
use crate::pusher::{Pusher, Verdict};
use crate::rows::{Row, Under};

/// Everything of one release.
pub(crate) struct Bench {
    envoy: Envoy,
    pusher: Pusher,
    at: [SocketAddr; 5],
    clients: Vec<(&'static str, Option<Credential>)>,
    _scratch: Scratch,
}

impl Bench {
    /// `rows`' first under each name are what it starts with.
    pub(crate) async fn start(release: Release, pki: &Pki, rows: &[Row]) -> Self {
        let scratch = Scratch::new().unwrap();
        let seat = Seats::here().take_for(release, &scratch, 0).unwrap();
        let at = [(); 5].map(|()| ports::free().unwrap());
        let app = headers_told().await;
        let socket = scratch.path().join("sds.sock");
        let first: Vec<_> =
            Under::ALL.map(|under| (under.name(), good(rows, under).content.clone())).to_vec();
        let pusher = Pusher::serve(&socket, &first);
        let admin = Envoy::admin_socket(&scratch, "matrix");
        let paths = [&socket, &admin].map(|path| path.to_str().unwrap());
        let text = bootstrap(pki, &at, app, paths);
        let mut envoy = Envoy::start(&scratch, "matrix", &seat, &text).unwrap();
        envoy.live().await.unwrap();
        Self { envoy, pusher, at, clients: clients(pki), _scratch: scratch }
    }

    /// Sends the row's secret, tells what becomes of it and of everybody, and puts the good one back.
    pub(crate) async fn observe(&self, pki: &Pki, row: &Row, good: &Row) -> String {
        let verdict = self.pusher.push(row.under.name(), row.content.clone()).await;
        let effect = match row.under {
            Under::Leaf => self.served(pki).await,
            Under::Token => self.carried().await,
            _ => self.admitted(row.under).await,
        };
        let back = self.pusher.push(row.under.name(), good.content.clone()).await;
        assert_eq!(back, Verdict::Ack, "{}: a good secret after it", row.what);
        match verdict {
            Verdict::Ack => format!("ACK; {effect}"),
            Verdict::Nack(reason) if reason.contains("PRIVATE KEY") => {
                "NACK, with the key in clear".to_owned()
            }
            Verdict::Nack(_) => "NACK".to_owned(),
        }
    }

    fn port(&self, under: Under) -> SocketAddr {
        let at = Under::ALL.iter().position(|known| *known == under).unwrap();
        self.at[at]
    }

    /// Whether peers who trust the root take what is shown to them.
    async fn served(&self, pki: &Pki) -> String {
        let Ok(chain) = shown(self.port(Under::Leaf)).await else { return "no handshake".to_owned() };
        let verified = verify(&chain, [&pki.bundle], Role::Server, Clock::system().now());
        if verified.is_ok() { "peers take it" } else { "peers refuse it" }.to_owned()
    }

    async fn admitted(&self, under: Under) -> String {
        let mut admitted = Vec::new();
        for (who, credential) in &self.clients {
            if let Attempt::Answered(_) = call(self.port(under), credential.as_ref()).await.unwrap() {
                admitted.push(*who);
            }
        }
        if admitted.is_empty() { "nobody gets in".to_owned() } else { format!("in: {}", admitted.join(", ")) }
    }

    /// What the application gets.
    async fn carried(&self) -> String {
        let answer = http::get_tcp(self.port(Under::Token), "/", &[]).await.unwrap();
        match answer.status().as_u16() {
            200 => String::from_utf8_lossy(answer.body()).into_owned(),
            refused => format!("every request gets {refused}"),
        }
    }

    pub(crate) fn log(&self) -> String {
        self.envoy.log()
    }
}

pub(crate) fn good(rows: &[Row], under: Under) -> &Row {
    rows.iter().find(|row| row.under == under).unwrap()
}

/// Those who come to each listener, each with what it shows.
fn clients(pki: &Pki) -> Vec<(&'static str, Option<Credential>)> {
    let of = |id: &str| leaf_params(id);
    let mut late = leaf_params(WEB);
    late.not_after = date_time_ymd(2026, 2, 1);
    vec![
        ("**no certificate**", None),
        ("**a stranger**", Some(pki.client(&pki.rogue, &of(WEB), &[]))),
        ("**an expired one**", Some(pki.client(&pki.root, &late, &[]))),
        ("web", Some(pki.client(&pki.root, &of(WEB), &[]))),
        ("other", Some(pki.client(&pki.root, &of("spiffe://example.org/other"), &[]))),
        (
            "below an intermediate",
            Some(pki.client(&pki.intermediate, &of("spiffe://example.org/deep"), &[&pki.intermediate])),
        ),
        ("second root's", Some(pki.client(&pki.second, &of("spiffe://example.org/second"), &[]))),
        ("partner's", Some(pki.client(&pki.partner, &of("spiffe://partner.test/web"), &[]))),
    ]
}

/// An application that says what is in the header that carries the token. Without "Bearer", which 1.36 cannot add.
async fn headers_told() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut request = Vec::new();
                while !request.ends_with(b"\r\n\r\n") && stream.read_buf(&mut request).await.unwrap_or(0) > 0
                {
                }
                let text = String::from_utf8_lossy(&request).into_owned();
                let header = text.lines().find_map(|line| line.strip_prefix("authorization: "));
                let said = match header {
                    Some(token) if token.split('.').count() == 3 => "the token arrives",
                    Some(_) => "something else arrives",
                    None => "no header arrives",
                };
                let answer = format!(
                    "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{said}",
                    said.len()
                );
                let _ = stream.write_all(answer.as_bytes()).await;
            });
        }
    });
    at
}

fn bootstrap(pki: &Pki, at: &[SocketAddr; 5], app: SocketAddr, [socket, admin]: [&str; 2]) -> String {
    let own = pki.good();
    let inline = |text: &str| format!("{{ inline_bytes: {} }}", BASE64.encode(unix(text).as_bytes()));
    let own = format!(
        "tls_certificates: [ {{ certificate_chain: {}, private_key: {} }} ]",
        inline(&own.chain),
        inline(&own.key)
    );
    let sds = "sds_config: { resource_api_version: V3, initial_fetch_timeout: 5s, api_config_source: { api_type: GRPC, transport_api_version: V3, set_node_on_first_message_only: true, grpc_services: [ { envoy_grpc: { cluster_name: sds } } ] } }";
    let named = |under: Under| format!("{{ name: \"{}\", {sds} }}", under.name());
    let floor = format!(
        "default_validation_context: {{ match_typed_subject_alt_names: [ {{ san_type: URI, matcher: {{ exact: \"{}\" }} }} ] }}",
        envoy_configs::NOBODY
    );
    let listener = |under: Under, common: &str, demand: &str| {
        let port = at[Under::ALL.iter().position(|known| *known == under).unwrap()].port();
        format!(
            r#"
  - name: {name}
    address: {{ socket_address: {{ address: 127.0.0.1, port_value: {port} }} }}
    filter_chains:
    - transport_socket:
        name: envoy.transport_sockets.tls
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext
          {demand}
          disable_stateless_session_resumption: true
          common_tls_context: {{ {common} }}
      filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: {name}
          route_config: {{ virtual_hosts: [ {{ name: all, domains: ["*"], routes: [ {{ match: {{ prefix: / }}, direct_response: {{ status: 200 }} }} ] }} ] }}
          http_filters: [ {{ name: router, typed_config: {{ "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router }} }} ]"#,
            name = under.name()
        )
    };
    let strict = "require_client_certificate: true";
    let leaf = format!("tls_certificate_sds_secret_configs: [ {} ]", named(Under::Leaf));
    let plain = |under| format!("{own}, validation_context_sds_secret_config: {}", named(under));
    let peers = format!(
        "{own}, combined_validation_context: {{ {floor}, validation_context_sds_secret_config: {} }}",
        named(Under::Peers)
    );
    let listeners = [
        listener(Under::Leaf, &leaf, ""),
        listener(Under::Roots, &plain(Under::Roots), strict),
        listener(Under::Peers, &peers, strict),
        listener(Under::All, &plain(Under::All), strict),
    ]
    .concat();
    let token = named(Under::Token);
    let (port, app) = (at[4].port(), app.port());
    format!(
        r#"
node: {{ id: matrix, cluster: matrix }}
admin: {{ address: {{ pipe: {{ path: "{admin}" }} }} }}
static_resources:
  listeners:{listeners}
  - name: token
    address: {{ socket_address: {{ address: 127.0.0.1, port_value: {port} }} }}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: token
          route_config: {{ virtual_hosts: [ {{ name: all, domains: ["*"], routes: [ {{ match: {{ prefix: / }}, route: {{ cluster: app }} }} ] }} ] }}
          http_filters:
          - name: injector
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.credential_injector.v3.CredentialInjector
              overwrite: true
              credential:
                name: envoy.http.injected_credentials.generic
                typed_config:
                  "@type": type.googleapis.com/envoy.extensions.http.injected_credentials.generic.v3.Generic
                  credential: {token}
                  header: authorization
          - {{ name: router, typed_config: {{ "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router }} }}
  clusters:
  - name: app
    type: STATIC
    load_assignment: {{ cluster_name: app, endpoints: [ {{ lb_endpoints: [ {{ endpoint: {{ address: {{ socket_address: {{ address: 127.0.0.1, port_value: {app} }} }} }} }} ] }} ] }}
  - name: sds
    type: STATIC
    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        explicit_http_config: {{ http2_protocol_options: {{}} }}
    load_assignment: {{ cluster_name: sds, endpoints: [ {{ lb_endpoints: [ {{ endpoint: {{ address: {{ pipe: {{ path: "{socket}" }} }} }} }} ] }} ] }}
"#
    )
}
