//! What does not fit together in the section of the door to the network.

use spiffe_bridge::x509::DnsNames;

use super::settings::Found;
use crate::endpoint::tls::Config;

/// Makes the path absolute, and adds what is wrong to `found`.
pub(super) fn settle(config: &mut Config, found: &mut Found) {
    match (&config.listen, &mut config.client_ca) {
        (Some(_), None) => {
            let advice =
                "without it nobody could come in: name the file of the CAs that issue to the remote callers";
            found.push(("remote.client_ca", advice.to_owned()));
        }
        (None, Some(_)) => {
            let advice = "remote.client_ca is of no use without it: give the address, or leave both out";
            found.push(("remote.listen", advice.to_owned()));
        }
        (_, Some(path)) => match std::path::absolute(&path) {
            Ok(absolute) => *path = absolute,
            Err(error) => found.push(("remote.client_ca", format!("{path:?}: {error}"))),
        },
        (None, None) => {}
    }
    if let Err(error) = DnsNames::parse(&config.dns_names) {
        found.push(("remote.dns_names", error.to_string()));
    }
    let counts = [
        ("remote.connections", config.connections, 1),
        ("remote.connections_per_address", config.connections_per_address, 1),
        ("remote.handshakes", config.handshakes, 4),
    ];
    for (key, _, least) in counts.into_iter().filter(|(_, count, least)| count < least) {
        found.push((key, format!("it would shut the door: give at least {least}")));
    }
    if config.handshake.as_millis() < 10 {
        found.push(("remote.handshake", "it must be at least 10ms".to_owned()));
    }
}
