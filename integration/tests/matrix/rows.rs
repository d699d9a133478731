//! The rows of the matrix: every secret that the checker has a word on, and the good ones beside them.

use envoy_types::pb::envoy::config::core::v3::DataSource;
use envoy_types::pb::envoy::config::core::v3::data_source::Specifier;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::secret::Type;

use crate::pki::Pki;

/// The name that a row's secret goes under, and so the listener that takes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Under {
    /// `default`: a server certificate.
    Leaf,
    /// `ROOTCA`, without any floor.
    Roots,
    /// `peers`, over the nobody floor.
    Peers,
    /// `ALL`, without any floor.
    All,
    /// `jwt:app`, put into a header.
    Token,
}

impl Under {
    pub(crate) const ALL: [Self; 5] = [Self::Leaf, Self::Roots, Self::Peers, Self::All, Self::Token];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Leaf => "default",
            Self::Roots => "ROOTCA",
            Self::Peers => "peers",
            Self::All => "ALL",
            Self::Token => "jwt:app",
        }
    }

    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Leaf => "A TLS certificate, under `default`",
            Self::Roots => "Roots, under `ROOTCA`, without a floor",
            Self::Peers => "Roots and matchers, under `peers`, over the nobody floor",
            Self::All => "The SPIFFE validator, under `ALL`, without a floor",
            Self::Token => "A generic secret, under `jwt:app`, put into a header",
        }
    }
}

/// One secret.
pub(crate) struct Row {
    pub(crate) under: Under,
    pub(crate) what: &'static str,
    pub(crate) content: Option<Type>,
}

/// All rows; the first under each name is a good one.
pub(crate) fn all(pki: &Pki) -> Vec<Row> {
    let mut rows = Vec::new();
    let mut add = |under: Under, list: Vec<(&'static str, Option<Type>)>| {
        rows.extend(list.into_iter().map(|(what, content)| Row { under, what, content }));
    };
    add(Under::Leaf, crate::leafs::rows(pki));
    add(Under::Roots, crate::contexts::roots(pki));
    add(Under::Peers, crate::contexts::peers(pki));
    add(Under::All, crate::spiffe::rows(pki));
    add(Under::Token, crate::tokens::rows());
    rows
}

pub(crate) fn source(specifier: Specifier) -> Option<DataSource> {
    Some(DataSource { specifier: Some(specifier), watched_directory: None })
}

/// As we send it: octets, in line.
pub(crate) fn inline(text: impl Into<Vec<u8>>) -> Option<DataSource> {
    source(Specifier::InlineBytes(text.into()))
}
