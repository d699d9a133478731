//! Transparent mutual TLS between two network namespaces: an unmodified curl calls an unmodified HTTP server, and
//! neither knows. Needs root.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::time::Duration;

use envoy_configs::{Admin, Callee, Callers, Kind, Settings, render};
use integration::envoy::Envoy;
use integration::namespace::Namespace;
use integration::process::Process;
use integration::scratch::Scratch;
use integration::seats::{Seat, Seats};
use integration::server::{Options, Server};
use integration::tools::network::Tool;
use integration::{poll, tools};

/// As in docs/operations.md: by this user the kernel knows Envoy's own connections.
const ENVOY: u32 = 1337;
const SOON: Duration = Duration::from_secs(10);
const WEB: &str = "spiffe://example.org/web";
const API: &str = "spiffe://example.org/api";

/// Answers every GET with the headers that it came with.
const PLAIN_SERVER: &str = "
import http.server, socket
class Echo(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = str(self.headers).encode()
        self.send_response(200)
        self.send_header('content-length', str(len(body)))
        self.end_headers()
        self.wfile.write(body)
class Server(http.server.ThreadingHTTPServer):
    address_family = socket.AF_INET6
Server(('::', 8080), Echo).serve_forever()
";

/// Three hosts: `web` and `api` in the mesh, and a stranger beside `api`.
struct Hosts {
    web_envoy: Envoy,
    api_envoy: Envoy,
    _program: Process,
    _server: Server,
    web: Namespace,
    _api: Namespace,
    stranger: Namespace,
    _scratch: Scratch,
}

/// The lines of docs/operations.md, for both families.
fn redirect(host: &Namespace) {
    let envoy = ENVOY.to_string();
    for tool in [Tool::Iptables, Tool::Ip6tables] {
        let nat = |line: &str| {
            let line = line.replace("ENVOY", &envoy);
            let words: Vec<&str> = ["-t", "nat"].into_iter().chain(line.split_whitespace()).collect();
            host.tool(tool, &words).unwrap();
        };
        nat("-A OUTPUT -p tcp ! -o lo -m owner ! --uid-owner ENVOY -j REDIRECT --to-ports 15001");
        nat("-A PREROUTING -p tcp ! -i lo -m tcp ! --dport 15021 -j REDIRECT --to-ports 15006");
    }
}

fn seat(scratch: &Scratch, server: &Server, nth: u32, id: &str) -> Seat {
    let seat = Seats::Programs.take(scratch, nth).unwrap();
    // Both run as one user, so they are told apart by their programs.
    server.add_entry(id, &[&format!("unix:uid:{ENVOY}"), &seat.selector]).unwrap();
    Seat { uid: Some(ENVOY), ..seat }
}

async fn envoy(
    host: &Namespace,
    scratch: &Scratch,
    name: &'static str,
    seat: Seat,
    chosen: Settings,
) -> Envoy {
    let admin = Admin::Unix(Envoy::admin_socket(scratch, name));
    let text = render(Kind::Transparent, &Settings { admin, ..chosen }).unwrap();
    let dir = scratch.dir(name, seat.uid).unwrap();
    let started = host.enter(move || Envoy::start_in(dir, name, &seat, &text)).unwrap();
    let mut envoy = started.unwrap();
    envoy.live().await.unwrap();
    envoy
}

async fn hosts() -> Hosts {
    let scratch = Scratch::new().unwrap();
    let server = Server::start(&scratch, "server", &Options::default()).await.unwrap();
    let [web, api, stranger] = [0; 3].map(|_| Namespace::new().unwrap());
    web.connect(&api, "mesh", &["10.77.0.1/24", "fd77::1/64"], &["10.77.0.2/24", "fd77::2/64"]).unwrap();
    stranger
        .connect(&api, "other", &["10.78.0.1/24", "fd78::1/64"], &["10.78.0.2/24", "fd78::2/64"])
        .unwrap();
    redirect(&web);
    redirect(&api);

    let settings = |callee: &str, callers: Callers| {
        let callee = Callee::Workload(callee.parse().unwrap());
        let mut chosen = Settings::new(Kind::Transparent, "example.org".parse().unwrap(), callee);
        chosen.socket = server.socket();
        chosen.callers = callers;
        chosen
    };
    let web_seat = seat(&scratch, &server, 0, WEB);
    let api_seat = seat(&scratch, &server, 1, API);
    let mut command = tools::python().unwrap();
    command.args(["-c", PLAIN_SERVER]);
    let log = scratch.path().join("program.log");
    let program = api.enter(move || Process::spawn("program", command, None, &log)).unwrap().unwrap();
    let web_envoy = envoy(&web, &scratch, "web", web_seat, settings(API, Callers::Domain)).await;
    let only_web = Callers::Listed(vec![WEB.parse().unwrap()]);
    let api_envoy = envoy(&api, &scratch, "api", api_seat, settings(WEB, only_web)).await;
    Hosts {
        web_envoy,
        api_envoy,
        _program: program,
        _server: server,
        web,
        _api: api,
        stranger,
        _scratch: scratch,
    }
}

/// What an unmodified curl on `host` gets: the status (0 for none) and the body.
fn curl(host: &Namespace, url: &str, more: &[&str]) -> (u16, String) {
    let mut curl = Tool::Curl.command().unwrap();
    curl.args([
        "--silent",
        "--globoff",
        "--noproxy",
        "*",
        "--max-time",
        "8",
        "--write-out",
        "\n%{http_code}",
    ]);
    let output = host
        .output({
            curl.args(more).arg(url);
            curl
        })
        .unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let (body, status) = said.rsplit_once('\n').unwrap();
    (status.parse().unwrap(), body.to_owned())
}

const FORGED: [&str; 4] = [
    "--header",
    "x-peer-spiffe-id: spiffe://example.org/admin",
    "--header",
    "x-forwarded-client-cert: By=spiffe://example.org/api;URI=spiffe://example.org/admin",
];

#[tokio::test(flavor = "multi_thread")]
async fn unmodified_programs_speak_mutual_tls_and_nothing_else_gets_by() {
    let mut hosts = hosts().await;
    // The program may still be starting.
    let answered = async || curl(&hosts.web, "http://10.77.0.2:8080/", &[]).0 == 200;
    poll::holds("api's program answers", SOON, answered).await.unwrap();

    for to in ["10.77.0.2", "[fd77::2]"] {
        let (status, headers) = curl(&hosts.web, &format!("http://{to}:8080/path"), &FORGED);
        assert_eq!(status, 200, "{to}: {headers}\n{}", hosts.web_envoy.log());
        assert!(headers.contains(&format!("x-peer-spiffe-id: {WEB}")), "{headers}");
        assert!(
            headers.contains(&format!("By={API};")) && headers.contains(&format!("URI={WEB}")),
            "{headers}"
        );
        assert!(!headers.contains("admin"), "forged: {headers}");
    }
    let stats = hosts.api_envoy.stats().await.unwrap();
    assert!(stats.sum("listener.", ".ssl.versions.TLSv1.3") >= 2);

    // Past the mesh, in clear: whatever the port, and by either family.
    for to in ["10.78.0.2:8080", "[fd78::2]:8080", "10.78.0.2:15006", "[fd78::2]:15006", "10.78.0.2:15001"] {
        let (status, body) = curl(&hosts.stranger, &format!("http://{to}/"), &FORGED);
        assert_eq!((status, body.as_str()), (0, ""), "{to}");
    }
    let refused = || hosts.api_envoy.log().matches("HTTP_REQUEST").count();
    poll::holds("the log says why", SOON, async || refused() >= 4).await.unwrap();
    // Over TLS without a certificate.
    assert_eq!(curl(&hosts.stranger, "https://10.78.0.2:8080/", &["--insecure"]).0, 0);

    // A probe is answered in clear, and gets no further.
    for to in ["10.78.0.2", "[fd78::2]"] {
        assert_eq!(curl(&hosts.stranger, &format!("http://{to}:15021/healthz"), &[]).0, 200);
        assert_eq!(curl(&hosts.stranger, &format!("http://{to}:15021/"), &[]).0, 404);
    }

    // Without its Envoy a program reaches nobody, rather than everybody in clear.
    hosts.web_envoy.kill().unwrap();
    assert_eq!(curl(&hosts.web, "http://10.77.0.2:8080/", &[]).0, 0);
    hosts.api_envoy.kill().unwrap();
    assert_eq!(curl(&hosts.stranger, "http://10.78.0.2:8080/", &[]).0, 0);
}
