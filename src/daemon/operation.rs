//! What an operation of the API is: its name, who may, what it takes and answers, and its handler.
//! What a handler takes and answers says itself what it looks like, so the description cannot differ
//! from the code.

use std::future::Future;
use std::sync::Arc;

use axum::extract::{FromRequestParts as _, Query as AxumQuery, RawPathParams, Request, State};
use axum::http::Method;
use axum::response::{IntoResponse as _, Json, Response};
use axum::routing::{MethodFilter, MethodRouter, on};
use schemars::{JsonSchema, SchemaGenerator};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::access::Caller;
use super::api::{Code, ErrorReply};
use super::body::read_json;
use super::shared::Api;

/// Who may do something. Each may also do all that those before it may.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, serde::Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Look, and stop the arm at once.
    Observe,
    /// Arm it, give it goals, say what became of episodes.
    Goal,
    /// Change what steers it.
    Deploy,
    /// Say who may what.
    Admin,
}

impl Role {
    /// All of them, the weakest first.
    pub const ALL: [Self; 4] = [Self::Observe, Self::Goal, Self::Deploy, Self::Admin];
}

impl std::fmt::Display for Role {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Observe => "observe",
            Self::Goal => "goal",
            Self::Deploy => "deploy",
            Self::Admin => "admin",
        })
    }
}

impl std::str::FromStr for Role {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|role| role.to_string() == text);
        found.ok_or_else(|| format!("expected observe, goal, deploy or admin, found {text:?}"))
    }
}

/// One operation of the API.
pub struct Operation {
    /// What programs call it.
    pub name: &'static str,
    /// GET, POST or DELETE.
    pub method: Method,
    /// Where it is; `{id}` stands for a number.
    pub path: &'static str,
    /// The weakest role that may.
    pub role: Role,
    /// What it does.
    pub about: &'static str,
    /// Its OpenAPI description, but for name, role and errors.
    pub(super) describe: fn(&mut SchemaGenerator) -> Map<String, Value>,
    pub(super) route: MethodRouter<Arc<Api>>,
}

/// What a handler gets of a request.
pub(super) trait Takes: Sized + Send + 'static {
    fn take(request: &mut Request) -> impl Future<Output = Result<Self, ErrorReply>> + Send;
    /// Adds itself to an operation's description.
    fn describe(operation: &mut Map<String, Value>, schemas: &mut SchemaGenerator);
}

/// What a handler answers when all went well.
pub(super) trait Answers: Send + 'static {
    fn answer(self) -> Response;
    /// The OpenAPI responses by status.
    fn describe(schemas: &mut SchemaGenerator) -> Value;
}

/// An operation whose handler is an async function.
pub(super) fn operation<T: Takes, A: Answers, F>(
    (name, method, path): (&'static str, Method, &'static str),
    role: Role,
    about: &'static str,
    handle: fn(Arc<Api>, T) -> F,
) -> Operation
where
    F: Future<Output = Result<A, ErrorReply>> + Send + 'static,
{
    let handler = move |State(api): State<Arc<Api>>, mut request: Request| async move {
        Caller::check(request.extensions().get(), role)?;
        let taken = T::take(&mut request).await?;
        Ok::<_, ErrorReply>(handle(api, taken).await?.answer())
    };
    let filter = MethodFilter::try_from(method.clone()).unwrap_or(MethodFilter::GET);
    let describe = |schemas: &mut SchemaGenerator| {
        let mut operation = Map::new();
        T::describe(&mut operation, schemas);
        operation.insert("responses".into(), A::describe(schemas));
        operation
    };
    Operation { name, method, path, role, about, describe, route: on(filter, handler) }
}

impl Takes for () {
    async fn take(_: &mut Request) -> Result<Self, ErrorReply> {
        Ok(())
    }

    fn describe(_: &mut Map<String, Value>, _: &mut SchemaGenerator) {}
}

impl<A: Takes, B: Takes> Takes for (A, B) {
    async fn take(request: &mut Request) -> Result<Self, ErrorReply> {
        let first = A::take(request).await?;
        Ok((first, B::take(request).await?))
    }

    fn describe(operation: &mut Map<String, Value>, schemas: &mut SchemaGenerator) {
        A::describe(operation, schemas);
        B::describe(operation, schemas);
    }
}

impl Takes for Caller {
    async fn take(request: &mut Request) -> Result<Self, ErrorReply> {
        let caller = request.extensions().get().cloned();
        caller.ok_or_else(|| ErrorReply::new(Code::Forbidden, "nobody has said who asks"))
    }

    fn describe(_: &mut Map<String, Value>, _: &mut SchemaGenerator) {}
}

/// What a request's body is made of.
pub(super) trait Body: DeserializeOwned + JsonSchema + Send + 'static {
    /// One, as JSON.
    const EXAMPLE: &'static str;
}

impl<T: Body> Takes for Json<T> {
    async fn take(request: &mut Request) -> Result<Self, ErrorReply> {
        Ok(Self(read_json(std::mem::take(request.body_mut()), T::EXAMPLE).await?))
    }

    fn describe(operation: &mut Map<String, Value>, schemas: &mut SchemaGenerator) {
        let content = json_content::<T>(schemas);
        let body = json!({ "required": true, "content": content });
        operation.insert("requestBody".into(), body);
    }
}

fn json_content<T: JsonSchema>(schemas: &mut SchemaGenerator) -> Value {
    json!({ "application/json": { "schema": schemas.subschema_for::<T>() } })
}

fn add_parameter(operation: &mut Map<String, Value>, parameter: Value) {
    let parameters = operation.entry("parameters").or_insert_with(|| json!([]));
    if let Some(parameters) = parameters.as_array_mut() {
        parameters.push(parameter);
    }
}

/// The number that stands in the path.
pub(super) struct Id(pub(super) u64);

impl Takes for Id {
    async fn take(request: &mut Request) -> Result<Self, ErrorReply> {
        let (mut parts, body) = std::mem::take(request).into_parts();
        let params = RawPathParams::from_request_parts(&mut parts, &()).await;
        *request = Request::from_parts(parts, body);
        let found = params.as_ref().ok().and_then(|params| params.iter().next());
        let (_, found) = found.unwrap_or_default();
        found.parse().map(Self).map_err(|_| {
            ErrorReply::new(Code::BadRequest, format!("expected an id, found {found:?}"))
        })
    }

    fn describe(operation: &mut Map<String, Value>, schemas: &mut SchemaGenerator) {
        let schema = schemas.subschema_for::<u64>();
        let id = json!({ "name": "id", "in": "path", "required": true, "schema": schema });
        add_parameter(operation, id);
    }
}

/// What stands behind the path's question mark.
pub(super) struct Query<T>(pub(super) T);

impl<T: DeserializeOwned + JsonSchema + Send + 'static> Takes for Query<T> {
    async fn take(request: &mut Request) -> Result<Self, ErrorReply> {
        match AxumQuery::try_from_uri(request.uri()) {
            Ok(AxumQuery(query)) => Ok(Self(query)),
            Err(e) => Err(ErrorReply::new(Code::BadRequest, format!("the path's query: {e}"))),
        }
    }

    fn describe(operation: &mut Map<String, Value>, schemas: &mut SchemaGenerator) {
        let schema = T::json_schema(schemas);
        let required = schema.get("required").and_then(Value::as_array);
        for (name, mut schema) in
            schema.get("properties").and_then(Value::as_object).cloned().unwrap_or_default()
        {
            let needed = required.is_some_and(|required| required.contains(&json!(name)));
            let about = schema.as_object_mut().and_then(|schema| schema.remove("description"));
            add_parameter(
                operation,
                json!({ "name": name, "in": "query", "required": needed,
                        "description": about, "schema": schema }),
            );
        }
    }
}

/// `{}`: done.
#[derive(Debug, Default, Serialize, JsonSchema)]
pub(super) struct Done {}

impl<T: Serialize + JsonSchema + Send + 'static> Answers for Json<T> {
    fn answer(self) -> Response {
        self.into_response()
    }

    fn describe(schemas: &mut SchemaGenerator) -> Value {
        json!({ "200": { "description": "Done.", "content": json_content::<T>(schemas) } })
    }
}
