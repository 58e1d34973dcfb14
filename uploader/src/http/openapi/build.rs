//! The parts that operations are put together from.

use std::collections::BTreeMap;

use http::StatusCode;
use utoipa::openapi::content::ContentBuilder;
use utoipa::openapi::header::{Header, HeaderBuilder};
use utoipa::openapi::path::{
    HttpMethod, Operation, OperationBuilder, Parameter, ParameterBuilder, ParameterIn,
};
use utoipa::openapi::request_body::{RequestBody, RequestBodyBuilder};
use utoipa::openapi::response::{Response, ResponseBuilder};
use utoipa::openapi::schema::{ObjectBuilder, SchemaType, Type};
use utoipa::openapi::security::SecurityRequirement;
use utoipa::openapi::{Ref, RefOr, Required, Schema};

use crate::http::problem::Kind;

/// Of what may be answered.
pub(super) struct Answer {
    status: u16,
    about: &'static str,
    content: Option<(&'static str, RefOr<Schema>)>,
    headers: Vec<(&'static str, &'static str)>,
}

impl Answer {
    pub(super) fn new(status: u16, about: &'static str) -> Self {
        Self {
            status,
            about,
            content: None,
            headers: Vec::new(),
        }
    }

    /// With JSON of a schema.
    pub(super) fn json(mut self, schema: &str) -> Self {
        let schema = RefOr::Ref(Ref::from_schema_name(schema));
        self.content = Some(("application/json", schema));
        self
    }

    /// With text of a media type.
    pub(super) fn text(mut self, media_type: &'static str) -> Self {
        self.content = Some((media_type, text()));
        self
    }

    pub(super) fn header(mut self, name: &'static str, about: &'static str) -> Self {
        self.headers.push((name, about));
        self
    }

    fn build(self) -> Response {
        let mut response = ResponseBuilder::new().description(self.about);
        if let Some((kind, schema)) = self.content {
            response = response.content(kind, ContentBuilder::new().schema(Some(schema)).build());
        }
        for (name, about) in self.headers {
            response = response.header(name, header(about));
        }
        response.build()
    }
}

fn header(about: &str) -> Header {
    HeaderBuilder::new()
        .schema(Some(text()))
        .description(Some(about))
        .build()
}

/// One method of one route.
pub(super) struct Op {
    pub(super) path: &'static str,
    pub(super) method: HttpMethod,
    pub(super) id: &'static str,
    pub(super) tag: &'static str,
    pub(super) about: &'static str,
    pub(super) parameters: Vec<Parameter>,
    pub(super) body: Option<RequestBody>,
    pub(super) answers: Vec<Answer>,
    /// Sets of problems; what is in several is said once.
    pub(super) problems: Vec<&'static [Kind]>,
    /// Whether anybody may ask.
    pub(super) open: bool,
}

impl Op {
    pub(super) fn build(self) -> Operation {
        let mut operation = OperationBuilder::new()
            .operation_id(Some(self.id))
            .tag(self.tag)
            .summary(Some(self.about))
            .parameters(Some(self.parameters))
            .request_body(self.body);
        if self.open {
            operation = operation.security(SecurityRequirement::default());
        }
        for answer in self.answers {
            operation = operation.response(answer.status.to_string(), answer.build());
        }
        let mut by_status: BTreeMap<u16, Vec<Kind>> = BTreeMap::new();
        let mut kinds: Vec<Kind> = self.problems.concat();
        kinds.sort();
        kinds.dedup();
        for kind in kinds {
            by_status
                .entry(kind.status().as_u16())
                .or_default()
                .push(kind);
        }
        for (status, kinds) in by_status {
            operation = operation.response(status.to_string(), problem(&kinds));
        }
        operation.build()
    }
}

/// The answer of one status, whose problems these are.
fn problem(kinds: &[Kind]) -> Response {
    let about: Vec<String> = kinds
        .iter()
        .map(|kind| format!("`{}`: {}", kind.word(), kind.about()))
        .collect();
    let schema = Ref::from_schema_name("ProblemDocument");
    let content = ContentBuilder::new().schema(Some(schema)).build();
    let mut response = ResponseBuilder::new()
        .description(about.join(" "))
        .content("application/problem+json", content);
    let status = kinds.first().map(|kind| kind.status());
    if matches!(
        status,
        Some(StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE)
    ) {
        response = response.header("Retry-After", header("Seconds to wait."));
    }
    if status == Some(StatusCode::METHOD_NOT_ALLOWED) {
        response = response.header("Allow", header("The methods that fit."));
    }
    if kinds.contains(&Kind::WrongOffset) {
        response = response.header("Upload-Offset", header("With `wrong-offset`: go on here."));
    }
    response.build()
}

/// Any text.
pub(super) fn text() -> RefOr<Schema> {
    RefOr::T(Schema::Object(
        ObjectBuilder::new()
            .schema_type(SchemaType::Type(Type::String))
            .build(),
    ))
}

/// Text of a pattern.
pub(super) fn pattern(pattern: &str) -> RefOr<Schema> {
    let object = ObjectBuilder::new()
        .schema_type(SchemaType::Type(Type::String))
        .pattern(Some(pattern));
    RefOr::T(Schema::Object(object.build()))
}

/// One of some words.
pub(super) fn words<'a>(words: impl IntoIterator<Item = &'a str>) -> RefOr<Schema> {
    let object = ObjectBuilder::new()
        .schema_type(SchemaType::Type(Type::String))
        .enum_values(Some(words));
    RefOr::T(Schema::Object(object.build()))
}

/// A whole number between two.
pub(super) fn integer(least: i64, most: i64) -> RefOr<Schema> {
    let object = ObjectBuilder::new()
        .schema_type(SchemaType::Type(Type::Integer))
        .minimum(Some(least))
        .maximum(Some(most));
    RefOr::T(Schema::Object(object.build()))
}

fn parameter(
    place: ParameterIn,
    name: &str,
    required: bool,
    about: &str,
    schema: RefOr<Schema>,
) -> Parameter {
    ParameterBuilder::new()
        .name(name)
        .parameter_in(place)
        .required(if required {
            Required::True
        } else {
            Required::False
        })
        .description(Some(about))
        .schema(Some(schema))
        .build()
}

/// The id in a path.
pub(super) fn id() -> Parameter {
    let schema = pattern("^[a-z0-9]{1,4}-[0-7][0-9a-hjkmnp-tv-z]{25}$");
    parameter(
        ParameterIn::Path,
        "id",
        true,
        "Id of the upload and of its video.",
        schema,
    )
}

/// A query parameter.
pub(super) fn query(name: &str, about: &str, schema: RefOr<Schema>) -> Parameter {
    parameter(ParameterIn::Query, name, false, about, schema)
}

/// A request header that may be there.
pub(super) fn may_send(name: &str, about: &str, schema: RefOr<Schema>) -> Parameter {
    parameter(ParameterIn::Header, name, false, about, schema)
}

/// A request header that must be there.
pub(super) fn must_send(name: &str, about: &str, schema: RefOr<Schema>) -> Parameter {
    parameter(ParameterIn::Header, name, true, about, schema)
}

/// The bytes of a file, as one of these media types.
pub(super) fn bytes(about: &str, kinds: &[&str]) -> RequestBody {
    let mut body = RequestBodyBuilder::new().description(Some(about));
    for kind in kinds {
        // In OpenAPI 3.1 an empty schema is any bytes.
        body = body.content(*kind, ContentBuilder::new().build());
    }
    body.build()
}

/// A JSON body of a schema.
pub(super) fn json_body(schema: &str) -> RequestBody {
    let schema = Ref::from_schema_name(schema);
    RequestBodyBuilder::new()
        .required(Some(Required::True))
        .content(
            "application/json",
            ContentBuilder::new().schema(Some(schema)).build(),
        )
        .build()
}
