//! Entry documents: what is read, and what is refused, where and with which advice.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use proptest::prelude::*;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer,
    CrlDistributionPoint, CrlIssuingDistributionPoint, CrlScope, DnType, IsCa, KeyIdMethod, KeyPair,
    KeyUsagePurpose, SerialNumber, date_time_ymd,
};
use spiffe_bridge::identity::{TrustDomain, parse_trust_domain};
use spiffe_bridge::keys::KeyType;
use spiffe_bridge::registration::document::{Content, Fault, parse, profile_to_yaml, to_yaml};
use spiffe_bridge::registration::{Entry, Profile};

fn domain() -> TrustDomain {
    parse_trust_domain("example.org").unwrap()
}

fn read(text: &str) -> Result<Vec<Entry>, Vec<Fault>> {
    let documents = parse(text, &"web.yaml".into(), &domain())?;
    Ok(documents.iter().filter_map(|document| document.entry().map(|entry| Entry::clone(entry))).collect())
}

const WHOLE: &str = "\
kind: Workload
spiffe_id: spiffe://example.org/web
selectors: [unix:uid:1001, unix:path:/usr/bin/web]
dns_names: [web.example.org, web]
profile: default
peers: [spiffe://example.org/front]
hint: internal
---
# the second
kind: Workload
spiffe_id: spiffe://example.org/db
selectors:
  - unix:sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855
---
";

#[test]
fn documents_are_read_whole() {
    let entries = read(WHOLE).unwrap();
    assert_eq!(entries.len(), 2);
    let web = &entries[0];
    assert_eq!(web.spiffe_id.to_string(), "spiffe://example.org/web");
    assert_eq!(web.selectors.len(), 2);
    assert_eq!(web.dns_names, ["web.example.org", "web"]);
    assert_eq!(web.peers[0].to_string(), "spiffe://example.org/front");
    assert_eq!((web.profile.as_deref(), web.hint.as_deref()), (Some("default"), Some("internal")));
    assert_eq!(&*web.source, "web.yaml");
    assert_ne!(web.id, entries[1].id);
    assert_eq!(web.id.as_str(), "93b9723fc8df877bdbcf", "an entry's id is stable");
    assert_eq!(read("").unwrap(), []);
    assert_eq!(read("# nothing yet\n").unwrap(), []);
}

#[test]
fn an_entry_is_printed_as_json_for_the_command_line() {
    let json = serde_json::to_value(&read(WHOLE).unwrap()[0]).unwrap();
    assert_eq!(json["spiffe_id"], "spiffe://example.org/web");
    assert_eq!(json["selectors"][0], "unix:path:/usr/bin/web");
    assert_eq!(json["peers"][0], "spiffe://example.org/front");
}

/// The faults of `text`, each as `line:column` and a word of its message.
fn check(text: &str, expected: &[(u64, u64, &str)]) {
    let faults = read(text).expect_err(text);
    let found: Vec<_> = faults.iter().map(|f| (f.line, f.column)).collect();
    let places: Vec<_> = expected.iter().map(|(line, column, _)| (*line, *column)).collect();
    assert_eq!(found, places, "{text}\n{faults:?}");
    for (fault, (_, _, word)) in faults.iter().zip(expected) {
        assert!(fault.message.contains(word), "{:?} lacks {word:?}\n{text}", fault.message);
        assert!(!fault.message.contains('\n'), "one line: {:?}", fault.message);
    }
}

/// A workload with the keys of `more`, which begin in line 3.
fn workload(more: &str) -> String {
    format!("kind: Workload\nspiffe_id: spiffe://example.org/web\n{more}")
}

#[test]
fn what_is_wrong_with_the_yaml_is_told_with_its_place() {
    check("kind: [", &[(1, 7, "")]);
    check("- a\n- b\n", &[(1, 1, "begin with kind")]);
    check(&workload("selectors: [unix:uid:1]\nselector: x\n"), &[(4, 1, "unknown field")]);
    check(&workload("selectors: [unix:uid:1]\nselectors: [unix:uid:2]\n"), &[(4, 1, "remove one")]);
    check(&workload("selectors: unix:uid:1\n"), &[(3, 12, "a list")]);
    check(&workload("selectors:\n  - unix: uid:1\n"), &[(4, 5, "space after a colon")]);
    check(&workload("selectors: [[unix:uid:1]]\n"), &[(3, 13, "")]);
    check(&workload("selectors: [unix:uid:1]\nhint: 12\n"), &[(4, 7, "")]);
    check(&workload("selectors: &a [unix:uid:1]\npeers: *a\n"), &[(3, 15, "no anchors")]);
    check(&workload("selectors: [unix:uid:1]\n<<: {hint: a}\n"), &[(4, 1, "merge keys")]);
    check("kind: Workload\nspiffe_id: spiffe://example.org/web\n", &[(1, 7, "missing field `selectors`")]);
    check("spiffe_id: spiffe://example.org/web\n", &[(1, 1, "missing field")]);
}

#[test]
fn another_kind_is_told_as_such() {
    check("kind: Rofile\nname: x\n---\nkind: Workloda\n", &[(1, 7, "Rofile"), (4, 7, "write Workload")]);
}

#[test]
fn every_wrong_value_is_told_with_its_place() {
    check(&workload("selectors: []\n"), &[(3, 12, "no selectors")]);
    check(
        "kind: Workload\nspiffe_id: spiffe://other.org/web\nselectors: [unix:uid:1]\n",
        &[(2, 12, "write spiffe://example.org/web")],
    );
    check("kind: Workload\nspiffe_id: spiffe://example.org\nselectors: [unix:uid:1]\n", &[(2, 12, "path")]);
    check("kind: Workload\nspiffe_id: web\nselectors: [unix:uid:1]\n", &[(2, 12, "not a SPIFFE ID")]);
    let more = "selectors:\n  - aws:iid:a\n  - unix:uuid:1\n  - unix:uid:01\n  - unix:uid:web\n  - unix:gid:65534\n  - unix:sha256:AB\n  - unix:path:web\n  - uid\n  - unix:uid:1\n  - unix:uid:1\n";
    let expected = [
        (4, 5, "unix:, docker:, systemd: and k8s: are known"),
        (5, 5, "the keys are uid"),
        (6, 5, "write the number as 1"),
        (7, 5, "unix:user"),
        (8, 5, "never match"),
        (9, 5, "64"),
        (10, 5, "absolute path"),
        (11, 5, "not a selector"),
        (13, 5, "twice"),
    ];
    check(&workload(more), &expected);
    let services = "selectors:\n  - systemd:id:web\n  - systemd:fragment_path:web.service\n  - systemd:unit:web.service\n  - k8s:pod-label:app\n  - k8s:pod-label::web\n  - k8s:labels:app:web\n  - systemd:id:web.service\n  - systemd:fragment_path:/a\n  - 'k8s:pod-label:app:'\n";
    let expected = [
        (4, 5, "systemd:id:web.service"),
        (5, 5, "systemd:fragment_path:/etc"),
        (6, 5, "the keys are id and fragment_path"),
        (7, 5, "k8s:pod-label:NAME:VALUE"),
        (8, 5, "k8s:pod-label:NAME:VALUE"),
        (9, 5, "the keys are ns, sa"),
    ];
    check(&workload(services), &expected);
    let names = "selectors: [unix:uid:1]\ndns_names: [Web, '*.web', a..b, -a, '10.0.0.1', 'a_b', '']\n";
    let faults = read(&workload(names)).unwrap_err();
    assert_eq!(faults.len(), 7, "{faults:?}");
    check(&workload("selectors: [unix:uid:1]\nprofile: Fast\n"), &[(4, 10, "lower-case")]);
    check(&workload("selectors: [unix:uid:1]\npeers: [spiffe://example.org]\n"), &[(4, 9, "path")]);
}

#[test]
fn wa_41_a_hint_has_at_most_1024_bytes() {
    let document = |length| workload(&format!("selectors: [unix:uid:1]\nhint: {}\n", "x".repeat(length)));
    read(&document(1024)).unwrap();
    check(&document(1025), &[(4, 7, "1024")]);
}

#[test]
fn remote_entries_are_known_by_certificates_and_local_ones_by_processes() {
    let remote = "remote: true\nselectors: [x509:uri:spiffe://ops.test/edge, x509:dns:edge.ops.test]\n";
    let entry = &read(&workload(remote)).unwrap()[0];
    assert!(entry.remote && entry.selectors.len() == 2);
    assert_eq!(read(&to_yaml([entry])).unwrap(), std::slice::from_ref(entry), "printed and read back");
    assert!(!read(&workload("remote: false\nselectors: [unix:uid:1]\n")).unwrap()[0].remote);

    check(&workload("selectors: [x509:dns:edge]\n"), &[(3, 13, "add remote: true")]);
    check(&workload("selectors: [unix:uid:1, x509:dns:edge]\n"), &[(3, 25, "add remote: true")]);
    check(&workload("remote: true\nselectors: [unix:uid:1]\n"), &[(4, 13, "write x509:uri:")]);
    check(&workload("remote: true\nselectors: [x509:dns:a, unix:uid:1]\n"), &[(4, 25, "write x509:uri:")]);
    check(&workload("remote: yes please\nselectors: [x509:dns:a]\n"), &[(3, 9, "")]);
    let more = "remote: true\nselectors: ['x509:cn:a', 'x509:uri:a', 'x509:dns:*.a', 'x509:sha256:AB']\n";
    let expected = [(4, 13, "not known"), (4, 26, "not a URI"), (4, 40, "not a DNS name"), (4, 56, "64")];
    check(&workload(more), &expected);
    let domain = "kind: TrustDomain\ntrust_domain: other.org\nremote: true\nbundle: x\n";
    assert!(read(domain).unwrap_err()[0].message.contains("unknown field `remote`"));
}

#[test]
fn no_entry_gives_an_identity_of_the_server_itself() {
    for path in ["countersign", "countersign/server", "countersign/canary/1"] {
        let text =
            format!("kind: Workload\nspiffe_id: spiffe://example.org/{path}\nselectors: [unix:uid:1]\n");
        check(&text, &[(2, 12, "reserved for the server itself")]);
    }
    assert!(
        read("kind: Workload\nspiffe_id: spiffe://example.org/countersigned\nselectors: [unix:uid:1]\n")
            .is_ok()
    );
}

fn profiles(text: &str) -> Vec<Profile> {
    let documents = parse(text, &"web.yaml".into(), &domain()).unwrap();
    let profile = |content: &Content| match content {
        Content::Profile(profile) => Some(Profile::clone(profile)),
        _ => None,
    };
    documents.iter().filter_map(|document| profile(&document.content)).collect()
}

#[test]
fn a_profile_says_the_type_of_the_key_and_how_long_an_svid_lives() {
    let mut text = String::new();
    for key_type in KeyType::ALL {
        text += &format!("---\nkind: Profile\nname: p-{key_type}\nkey_type: {key_type}\nlifetime: 1m30s\n");
    }
    text += "---\nkind: Profile\nname: short\nlifetime: 10s\n---\nkind: Profile\nname: default\nkey_type: ec-p384\n";
    let read = profiles(&text);
    for (profile, key_type) in read.iter().zip(KeyType::ALL) {
        assert_eq!((&profile.name, profile.terms.key_type), (&format!("p-{key_type}"), key_type));
        assert_eq!(profile.terms.lifetime.unwrap().as_secs(), 90);
    }
    let short = &read[KeyType::ALL.len()];
    assert_eq!((short.terms.key_type, short.terms.lifetime.unwrap().as_secs()), (KeyType::EcP256, 10));
    assert_eq!(read.last().unwrap().terms.lifetime, None);
    let printed: String = read.iter().map(profile_to_yaml).collect();
    assert_eq!(profiles(&printed), read, "{printed}");
    let json = serde_json::to_value(short).unwrap();
    assert_eq!((&json["key_type"], &json["lifetime"]), (&"ec-p256".into(), &"10s".into()));
}

#[test]
fn what_is_wrong_with_a_profile_is_told_with_its_place() {
    let profile = |more: &str| format!("kind: Profile\nname: fast\n{more}");
    check(&profile(""), &[(1, 7, "decides nothing")]);
    check("kind: Profile\nkey_type: ec-p256\n", &[(1, 7, "missing field `name`")]);
    check(&profile("key_type: p256\n"), &[(3, 11, "write ec-p256, ec-p384")]);
    check(&profile("key_type: rsa-1024\n"), &[(3, 11, "rsa-2048")]);
    check(&profile("lifetime: 60\n"), &[(3, 11, "")]);
    check(&profile("lifetime: 1500ms\n"), &[(3, 11, "whole seconds, from 10s to 1d")]);
    check(&profile("lifetime: 9s\n"), &[(3, 11, "from 10s to 1d")]);
    check(&profile("lifetime: 1d1s\n"), &[(3, 11, "from 10s to 1d")]);
    check(&profile("lifetime: soon\n"), &[(3, 11, "such as 90s")]);
    check(&profile("lifetime: 1h\nhint: x\n"), &[(4, 7, "unknown field `hint`")]);
    check("kind: Profile\nname: Fast\nlifetime: 1h\n", &[(2, 7, "not a profile's name")]);
    check("kind: Profile\nname: -\nlifetime: 1h\n", &[(2, 7, "")]);
    let long = format!("kind: Profile\nname: {}\nlifetime: 1h\n", "x".repeat(64));
    check(&long, &[(2, 7, "1 to 63")]);
    let twice = profile("lifetime: 1h\n---\nkind: Profile\nname: fast\nkey_type: ed25519\n");
    check(&twice, &[(6, 7, "line 2")]);
    check(&workload("selectors: [unix:uid:1]\nlifetime: 1h\n"), &[(4, 11, "unknown field `lifetime`")]);
}

#[test]
fn an_entry_that_stands_twice_in_a_file_is_refused() {
    let one = workload("selectors: [unix:uid:1, unix:gid:1]\n");
    let other_order = workload("selectors: [unix:gid:1, unix:uid:1]\n");
    check(&format!("{one}---\n{other_order}"), &[(6, 12, "line 2")]);
}

#[test]
fn sizes_are_bounded() {
    check(&"#\n".repeat(1 << 20), &[(0, 0, "split the file")]);
    let faults = read(&format!("kind: {}", "[".repeat(100_000))).unwrap_err();
    assert_eq!(faults.len(), 1);
    let ids = (0..1025).map(|n| format!("spiffe://example.org/{n}")).collect::<Vec<_>>().join(",");
    check(&workload(&format!("selectors: [unix:uid:1]\npeers: [{ids}]\n")), &[(4, 25523, "at most 1024")]);
}

proptest! {
    #[test]
    fn what_is_printed_is_read_back(
        path in "[a-zA-Z0-9._-]{0,20}[a-z]", uid in 0u32..65000, user in "\\PC{1,20}",
        dns in proptest::collection::btree_set("[a-z][a-z0-9]{0,10}(\\.[a-z]{1,5})?", 0..4),
        hint in proptest::option::of("\\PC{1,40}"),
    ) {
        let quoted = |text: &str| serde_json::Value::from(text).to_string();
        let mut text = format!(
            "kind: Workload\nspiffe_id: spiffe://example.org/{path}\nselectors: [unix:uid:{uid}, {}]\n",
            quoted(&format!("unix:user:{user}")),
        );
        text += &format!("dns_names: {}\n", serde_json::Value::from(dns.into_iter().collect::<Vec<_>>()));
        if let Some(hint) = &hint {
            text += &format!("hint: {}\n", quoted(hint));
        }
        if let Ok(entries) = read(&text) {
            prop_assert_eq!(read(&to_yaml(&entries)), Ok(entries));
        }
    }
}

/// A CA called `name` whose key no other has.
fn ca(name: &str) -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

fn crl(issuer: &CertifiedIssuer<'static, KeyPair>, scope: Option<CrlScope>) -> String {
    let params = CertificateRevocationListParams {
        this_update: date_time_ymd(2026, 1, 1),
        next_update: date_time_ymd(2039, 1, 1),
        crl_number: SerialNumber::from(1),
        issuing_distribution_point: scope.map(|scope| CrlIssuingDistributionPoint {
            distribution_point: CrlDistributionPoint { uris: vec!["http://other.test/crl".to_owned()] },
            scope: Some(scope),
        }),
        revoked_certs: Vec::new(),
        key_identifier_method: KeyIdMethod::Sha256,
    };
    params.signed_by(issuer).unwrap().pem().unwrap()
}

#[test]
fn the_crls_of_a_trust_domain_are_all_that_its_roots_need_or_none() {
    let (root, second, below, forger) = (ca("root"), ca("second"), ca("below"), ca("root"));
    let with = |bundle: &[&String], crls: &[&String]| {
        let block = |pems: &[&String]| pems.iter().map(|pem| pem.replace('\r', "")).collect::<String>();
        let (bundle, crls) = (block(bundle).replace('\n', "\n  "), block(crls).replace('\n', "\n  "));
        let text = format!(
            "kind: TrustDomain\ntrust_domain: other.test\nbundle: |\n  {bundle}\ncrls: |\n  {crls}\n"
        );
        let documents = parse(&text, &"web.yaml".into(), &domain());
        documents.map_err(|faults| faults[0].message.clone()).map(|documents| match &documents[0].content {
            Content::TrustDomain(bundle) => bundle.crls.len(),
            _ => panic!("another kind"),
        })
    };
    let (pem, its) = (root.pem(), crl(&root, None));
    assert_eq!(with(&[&pem], &[&its]), Ok(1));
    let lower = crl(&below, None);
    assert_eq!(with(&[&pem], &[&its, &lower]), Ok(2), "a CA below the root has its own");
    let pems = [&pem, &second.pem()];
    assert_eq!(with(&pems, &[&its, &crl(&second, None)]), Ok(2));
    let x5c = data_encoding::BASE64.encode(root.der());
    let document =
        serde_json::json!({ "keys": [{ "kty": "EC", "use": "x509-svid", "x5c": [x5c] }] }).to_string();
    assert_eq!(with(&[&document], &[&its]), Ok(1), "a bundle document has roots as PEM has");

    let refused = |bundle: &[&String], crls: &[&String], why: &str| {
        let message = with(bundle, crls).unwrap_err();
        assert!(message.contains(why), "{message}");
    };
    refused(&pems, &[&its], "no CRL of root 2 (CN=second)");
    refused(&[&pem], &[&lower], "no CRL of root 1");
    refused(&[&document], &[&lower], "no CRL of root 1");
    refused(&[&pem], &[&crl(&forger, None)], "no CRL of root 1");
    refused(&[&pem], &[&its, &its], "CRLs 1 and 2 are of one CA");
    refused(&[&pem], &[&crl(&root, Some(CrlScope::UserCertsOnly))], "lists a part only");
    refused(&[&pem], &[&"nothing".to_owned()], "paste X509 CRL blocks");
    refused(&[&pem], &[&its, &pem], "paste X509 CRL blocks, and nothing else");
    refused(&[&pem, &its], &[&its], "put X509 CRL blocks under crls");
    refused(&[&pem], &[&its.replacen("MI", "AA", 1)], "CRL 1: ");
    refused(&[&pem], &[&its.repeat(257)], "257 CRLs: at most 256");
    let workload = "kind: Workload\nspiffe_id: spiffe://example.org/a\nselectors: [unix:uid:1]\ncrls: x\n";
    assert!(read(workload).unwrap_err()[0].message.contains("unknown field `crls`"));
}
