//! JOSE documents of SPIFFE: trust bundles as JWK Sets.

pub mod bundle;
