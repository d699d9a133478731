//! Tokens that are asked for once: a stream has its session follow them, and here there is none.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::future::join_all;
use spiffe_bridge::identity::WorkloadUpdate;
use spiffe_bridge::node::{MAX_WANTS, Node, Session, TokenRefused, TokenSpec};

use crate::sds::names::Name;

/// `update` with the tokens among `names` that there are, none of which is due to be renewed, and why one is missing.
pub(super) async fn added(
    update: Arc<WorkloadUpdate>,
    names: &[String],
    session: &Session,
    node: Option<&Node>,
) -> (Arc<WorkloadUpdate>, Option<TokenRefused>) {
    let audiences = names.iter().filter_map(|name| match Name::parse(name)? {
        Name::Token { audience } => Some(audience),
        _ => None,
    });
    let audiences: BTreeSet<&str> = audiences.take(MAX_WANTS).collect();
    let (Some(node), Some(default)) = (node, update.identities.first()) else { return (update, None) };
    if audiences.is_empty() {
        return (update, None);
    }
    let asked = audiences.into_iter().map(async |audience| {
        let (caller, id) = (session.holder().cloned(), default.svid.spiffe_id.clone());
        let spec = TokenSpec::Jwt { audience: vec![audience.to_owned()] };
        Ok((audience, node.token(caller, id, spec).await?.fresh().await?))
    });
    let (mut with, mut missing) = (WorkloadUpdate::clone(&update), None);
    for answered in join_all(asked).await {
        match answered {
            Ok((audience, svid)) => drop(with.jwt_svids.insert(audience.into(), svid)),
            Err(refused) => missing = Some(refused),
        }
    }
    (Arc::new(with), missing)
}
