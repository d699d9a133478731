//! One flush of an Envoy's statistics, by secret and by who uses it.

use std::collections::{BTreeMap, BTreeSet};

use prost::Message as _;

use super::otlp::{CUMULATIVE, Export, Metric};

/// What one message may hold.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Bytes of the message, before it is decoded.
    pub message_bytes: usize,
    /// Metrics in it.
    pub metrics: usize,
    /// Bytes of a metric's name.
    pub name_bytes: usize,
}

impl Default for Bounds {
    /// 1,200 secrets on an Envoy are about 5,000 metrics of 110 bytes. A name holds an SDS name and an owner.
    fn default() -> Self {
        Self { message_bytes: 4 * 1024 * 1024, metrics: 16_384, name_bytes: 4096 }
    }
}

/// A listener (`listener.127.0.0.1_443`) or a cluster (`cluster.up`) of that Envoy.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Owner(Box<str>);

impl Owner {
    /// From the start of a full name.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self(name.into())
    }

    /// Its length in bytes.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

/// What Envoy counts of one secret.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Secret {
    /// xxHash64 of the version that it took note of; not a proof by itself.
    pub version: Option<u64>,
    /// Refusals since it started.
    pub rejected: u64,
    /// Who uses it.
    pub users: BTreeSet<Owner>,
}

/// What one flush said.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Observation {
    /// By [`stat_name`].
    pub secrets: BTreeMap<Box<str>, Secret>,
    /// Contexts replaced since the start. Envoy leaves out a counter that was never raised.
    pub updates: BTreeMap<Owner, u64>,
}

/// Why a message tells nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Larger than a flush of these metrics can be.
    #[error("{bytes} bytes of statistics, at most {max} are read: let the sink drop what is not asked for")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// [`Bounds::message_bytes`]
        max: usize,
    },
    /// Not an OTLP request.
    #[error("not an OTLP ExportMetricsServiceRequest: {0}")]
    Undecodable(#[from] prost::DecodeError),
    /// More metrics than are read.
    #[error("more than {max} metrics: let the sink drop what is not asked for")]
    TooMany {
        /// [`Bounds::metrics`]
        max: usize,
    },
    /// A flush that got lost would be missed for ever.
    #[error("counters come as deltas: set report_counters_as_deltas to false in the sink")]
    Deltas,
}

impl Observation {
    /// Reads an OTLP request. Metrics that are not asked for, and names that are too long, are skipped.
    ///
    /// # Errors
    /// The message breaks its [`Bounds`], cannot be decoded, or counts in deltas.
    pub fn decode(message: &[u8], bounds: Bounds) -> Result<Self, Error> {
        if message.len() > bounds.message_bytes {
            return Err(Error::TooLarge { bytes: message.len(), max: bounds.message_bytes });
        }
        let export = Export::decode(message)?;
        let scopes = export.resources.iter().flat_map(|resource| &resource.scopes);
        let mut seen = Self::default();
        for (count, metric) in scopes.flat_map(|scope| &scope.metrics).enumerate() {
            if count >= bounds.metrics {
                return Err(Error::TooMany { max: bounds.metrics });
            }
            if metric.name.len() <= bounds.name_bytes {
                seen.take(metric)?;
            }
        }
        seen.join_numbered();
        Ok(seen)
    }

    /// The SPIFFE validator has a gauge for each certificate of a secret, by the secret's name and a number: who uses
    /// `ALL` is told by `ALL_0`, `ALL_1` (seen with 1.40.0). A secret of such a name has a version of its own.
    fn join_numbered(&mut self) {
        let of_number = |name: &str, secret: &Secret| {
            let (base, number) = name.rsplit_once('_')?;
            let is_number = !number.is_empty() && number.bytes().all(|digit| digit.is_ascii_digit());
            let is_its = is_number && secret.version.is_none() && self.secrets.get(base)?.version.is_some();
            is_its.then(|| (Box::<str>::from(name), Box::<str>::from(base)))
        };
        let numbered: Vec<_> = self.secrets.iter().filter_map(|(name, s)| of_number(name, s)).collect();
        for (name, base) in numbered {
            if let Some(secret) = self.secrets.remove(&name) {
                self.secrets.entry(base).or_default().users.extend(secret.users);
            }
        }
    }

    fn take(&mut self, metric: &Metric) -> Result<(), Error> {
        if let Some(owner) = owner_of_updates(&metric.name) {
            if let Some(value) = counter(metric)? {
                self.updates.insert(Owner::new(owner), value);
            }
        } else if let Some(rest) = metric.name.strip_prefix("sds.") {
            if let Some(name) = rest.strip_suffix(".version") {
                self.secret(name).version = gauge(metric);
            } else if let Some(name) = rest.strip_suffix(".update_rejected")
                && let Some(value) = counter(metric)?
            {
                self.secret(name).rejected = value;
            }
        } else if let Some(rest) = metric.name.strip_suffix(".expiration_unix_time_seconds")
            && is_owner(rest)
            && let Some((owner, name)) = rest.split_once(".ssl.certificate.")
            && gauge(metric).is_some()
        {
            self.secret(name).users.insert(Owner::new(owner));
        }
        Ok(())
    }

    fn secret(&mut self, name: &str) -> &mut Secret {
        self.secrets.entry(stat_name(name).into()).or_default()
    }
}

/// A secret's name as Envoy spells it in `sds.<name>.…`. The gauges of certificates keep the colons; both are
/// brought to this form.
#[must_use]
pub fn stat_name(name: &str) -> String {
    name.replace("://", "_").replace(":/", "_").replace(':', "_")
}

fn is_owner(name: &str) -> bool {
    name.starts_with("listener.") || name.starts_with("cluster.")
}

fn owner_of_updates(name: &str) -> Option<&str> {
    let rest = name.strip_suffix("_ssl_socket_factory.ssl_context_update_by_sds")?;
    let owner = rest.strip_suffix(".server").or_else(|| rest.strip_suffix(".client"))?;
    is_owner(owner).then_some(owner)
}

fn gauge(metric: &Metric) -> Option<u64> {
    let point = metric.gauge.as_ref()?.points.first()?;
    point.integer.map(i64::cast_unsigned)
}

fn counter(metric: &Metric) -> Result<Option<u64>, Error> {
    let Some(sum) = &metric.sum else { return Ok(None) };
    if sum.temporality != CUMULATIVE {
        return Err(Error::Deltas);
    }
    Ok(sum.points.first().and_then(|point| point.integer).map(i64::cast_unsigned))
}

#[cfg(test)]
mod tests {
    use super::super::otlp::{Gauge, Point, Resource, Scope};
    use super::*;

    #[test]
    fn a_numbered_certificate_is_of_the_secret_that_has_the_name() {
        let gauge = |name: &str| Metric {
            name: name.to_owned(),
            gauge: Some(Gauge { points: vec![Point { integer: Some(1) }] }),
            sum: None,
        };
        let used =
            |name: &str| gauge(&format!("listener.a.ssl.certificate.{name}.expiration_unix_time_seconds"));
        let mut metrics: Vec<Metric> =
            ["ALL", "web_1", "web"].map(|name| gauge(&format!("sds.{name}.version"))).into();
        metrics.extend(["ALL_0", "ALL_1", "web_1", "other_0", "ALL_x"].map(used));
        let export = Export { resources: vec![Resource { scopes: vec![Scope { metrics }] }] };
        let seen = Observation::decode(&export.encode_to_vec(), Bounds::default()).unwrap();
        let users = |name: &str| seen.secrets.get(name).map(|secret| secret.users.len());
        assert_eq!(["ALL", "web_1", "web"].map(users), [Some(1), Some(1), Some(0)]);
        assert_eq!(["ALL_0", "ALL_1", "other_0", "ALL_x"].map(users), [None, None, Some(1), Some(1)]);
    }
}
