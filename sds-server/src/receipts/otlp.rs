//! OTLP `ExportMetricsServiceRequest`, as far as it is needed: numbers by name. Everything else is skipped.
//!
//! Field numbers are those of the OpenTelemetry protocol, metrics/v1.

/// `ExportMetricsServiceRequest`
#[derive(Clone, PartialEq, prost::Message)]
pub struct Export {
    /// One per sender's resource; Envoy sends one.
    #[prost(message, repeated, tag = "1")]
    pub resources: Vec<Resource>,
}

/// `ResourceMetrics`; what the sender says of itself (field 1) is skipped: it proves nothing.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Resource {
    /// One per instrumentation scope; Envoy sends one.
    #[prost(message, repeated, tag = "2")]
    pub scopes: Vec<Scope>,
}

/// `ScopeMetrics`
#[derive(Clone, PartialEq, prost::Message)]
pub struct Scope {
    /// The numbers.
    #[prost(message, repeated, tag = "2")]
    pub metrics: Vec<Metric>,
}

/// `Metric`; histograms and summaries are skipped.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Metric {
    /// Full name in dots, where the sink is told not to extract tags.
    #[prost(string, tag = "1")]
    pub name: String,
    /// A gauge.
    #[prost(message, optional, tag = "5")]
    pub gauge: Option<Gauge>,
    /// A counter.
    #[prost(message, optional, tag = "7")]
    pub sum: Option<Sum>,
}

/// `Gauge`
#[derive(Clone, PartialEq, prost::Message)]
pub struct Gauge {
    /// Envoy sends one.
    #[prost(message, repeated, tag = "1")]
    pub points: Vec<Point>,
}

/// `Sum`
#[derive(Clone, PartialEq, prost::Message)]
pub struct Sum {
    /// Envoy sends one.
    #[prost(message, repeated, tag = "1")]
    pub points: Vec<Point>,
    /// 2 is since the start, 1 is since the last flush.
    #[prost(int32, tag = "2")]
    pub temporality: i32,
}

/// `NumberDataPoint`, integers only: Envoy's are.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Point {
    /// The value; 64 unsigned bits of a gauge come as they are.
    #[prost(sfixed64, optional, tag = "6")]
    pub integer: Option<i64>,
}

/// `AGGREGATION_TEMPORALITY_CUMULATIVE`: what Envoy sends unless `report_counters_as_deltas` is set.
pub const CUMULATIVE: i32 = 2;
