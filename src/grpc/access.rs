//! Who may call what: the roles each RPC declares in the protos, enforced before a message is read.
//!
//! The layer authenticates, compares the role, and hands the caller on to the handler. An RPC
//! without a declaration is refused to everyone. Not here: which objects a caller may see
//! (`engine`), and what a key is (`engine::access`).

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::Body;
use futures::future::BoxFuture;
use http::{HeaderMap, Request, Response, header};
use prost_reflect::{DescriptorPool, MethodDescriptor, ReflectMessage, Value};
use tokio::sync::Semaphore;
use tonic::Status;
use tower::{Layer, Service};

use super::status::status_of;
use crate::engine::Role;
use crate::engine::access::Principal;
use crate::engine::{Engine, EngineError};
use crate::proto::{KEY_IN_URL, v1};

/// The longest credential that is looked at.
const CREDENTIAL_LENGTH_MAX: usize = 256;

/// The roles that may call each RPC, by its HTTP path.
#[derive(Debug)]
pub struct AccessTable(HashMap<String, Vec<Role>>);

impl AccessTable {
    /// Reads the declarations of every RPC of the product.
    ///
    /// # Errors
    /// When the embedded descriptors cannot be read, or an RPC declares nothing.
    pub fn read() -> Result<Self, String> {
        let pool = DescriptorPool::decode(crate::proto::DESCRIPTORS)
            .map_err(|error| format!("the embedded descriptors cannot be read: {error}"))?;
        let mut table = HashMap::new();
        for service in pool.services().filter(|service| service.package_name() == "quetra.v1") {
            for method in service.methods() {
                let path = format!("/{}/{}", service.full_name(), method.name());
                let roles = declared_roles(&pool, &method)
                    .filter(|roles| !roles.is_empty())
                    .ok_or_else(|| format!("{path} declares no roles"))?;
                table.insert(path, roles);
            }
        }
        Ok(Self(table))
    }

    fn roles(&self, path: &str) -> Option<&[Role]> {
        self.0.get(path).map(Vec::as_slice)
    }
}

fn declared_roles(pool: &DescriptorPool, method: &MethodDescriptor) -> Option<Vec<Role>> {
    let extension = pool.get_extension_by_name("quetra.v1.contract")?;
    let options = method.options();
    if !options.has_extension(&extension) {
        return None;
    }
    let contract = options.get_extension(&extension);
    let contract = contract.as_message()?;
    let roles = contract.get_field_by_name("roles")?;
    let role = |value: &Value| match v1::Role::try_from(value.as_enum_number()?).ok()? {
        v1::Role::Unspecified => None,
        v1::Role::Admin => Some(Role::Admin),
        v1::Role::Agent => Some(Role::Agent),
        v1::Role::Reader => Some(Role::Reader),
    };
    debug_assert!(contract.descriptor().full_name() == "quetra.v1.RpcContract");
    roles.as_list()?.iter().map(role).collect()
}

/// Puts the check in front of the gRPC services.
#[derive(Clone, Debug)]
pub struct AccessLayer {
    engine: Arc<Engine>,
    table: Arc<AccessTable>,
    slots: Arc<Semaphore>,
}

impl AccessLayer {
    /// The layer of an engine that takes this many calls at the same time.
    #[must_use]
    pub fn new(engine: Arc<Engine>, table: AccessTable, in_flight_max: usize) -> Self {
        let slots = Semaphore::new(in_flight_max.min(Semaphore::MAX_PERMITS));
        Self { engine, table: Arc::new(table), slots: Arc::new(slots) }
    }
}

impl<S> Layer<S> for AccessLayer {
    type Service = Checked<S>;

    fn layer(&self, inner: S) -> Checked<S> {
        Checked { inner, layer: self.clone() }
    }
}

/// A service behind the check.
#[derive(Clone, Debug)]
pub struct Checked<S> {
    inner: S,
    layer: AccessLayer,
}

impl<S> Service<Request<Body>> for Checked<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>
        + Clone
        + Send
        + 'static,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let waiting = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, waiting);
        let layer = self.layer.clone();
        Box::pin(async move {
            // Health, reflection and unknown methods have no row: they need no caller.
            let Some(roles) = layer.table.roles(request.uri().path()) else {
                return inner.call(request).await;
            };
            let Ok(_slot) = layer.slots.try_acquire() else {
                return Ok(status_of(EngineError::Overloaded).into_http());
            };
            match check(&layer.engine, roles, request.headers()).await {
                Ok(caller) => drop(request.extensions_mut().insert(caller)),
                Err(error) => return Ok(status_of(error).into_http()),
            }
            inner.call(request).await
        })
    }
}

async fn check(
    engine: &Engine,
    roles: &[Role],
    headers: &HeaderMap,
) -> Result<Principal, EngineError> {
    let key = bearer(headers).ok_or(EngineError::Unauthenticated)?;
    let caller = if headers.contains_key(KEY_IN_URL) {
        engine.authenticate_in_url(key).await?
    } else {
        engine.authenticate(key).await?
    };
    if roles.contains(&caller.role) {
        Ok(caller)
    } else {
        Err(EngineError::RoleNotAllowed(caller.role))
    }
}

/// The one credential of a request; two are as good as none.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let value = values.next()?.to_str().ok()?;
    if values.next().is_some() || value.len() > CREDENTIAL_LENGTH_MAX {
        return None;
    }
    let (scheme, key) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(key)
}

/// The caller that the layer has found.
pub(super) fn caller<T>(request: &tonic::Request<T>) -> Result<Principal, Status> {
    request
        .extensions()
        .get::<Principal>()
        .copied()
        .ok_or_else(|| status_of(EngineError::Unauthenticated))
}
