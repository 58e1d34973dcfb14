//! `traceparent`, as W3C Trace Context has it: read from strangers, so checked to the letter before anything stores it.

use opentelemetry::Context;
use opentelemetry::trace::{
    SpanContext, SpanId, TraceContextExt as _, TraceFlags, TraceId, TraceState,
};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

/// A trace and the span in it that what follows belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Traceparent {
    text: String,
    span: SpanContext,
}

impl Traceparent {
    /// Reads the header. None for what the standard says to ignore: another form, zero ids, version ff.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut fields = text.trim().split('-');
        let version = hex(fields.next()?, 2)?;
        let trace = TraceId::from_hex(hex(fields.next()?, 32)?).ok()?;
        let span = SpanId::from_hex(hex(fields.next()?, 16)?).ok()?;
        let flags = u8::from_str_radix(hex(fields.next()?, 2)?, 16).ok()?;
        // Later versions may append fields; the first has none.
        if version == "ff" || (version == "00" && fields.next().is_some()) {
            return None;
        }
        Self::of_context(&SpanContext::new(
            trace,
            span,
            TraceFlags::new(flags) & TraceFlags::SAMPLED,
            true,
            TraceState::default(),
        ))
    }

    /// Of a span of this process; None when it is in no trace.
    #[must_use]
    pub fn of(span: &tracing::Span) -> Option<Self> {
        let context = span.context();
        Self::of_context(context.span().span_context())
    }

    fn of_context(span: &SpanContext) -> Option<Self> {
        span.is_valid().then(|| Self {
            text: format!(
                "00-{}-{}-{:02x}",
                span.trace_id(),
                span.span_id(),
                span.trace_flags()
            ),
            span: span.clone(),
        })
    }

    /// The header's value, always of version 00.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Makes `span` a child of it.
    pub fn adopt(&self, span: &tracing::Span) {
        let parent = Context::new().with_remote_span_context(self.span.clone());
        // Fails where no spans are made.
        let _ = span.set_parent(parent);
    }
}

fn hex(text: &str, length: usize) -> Option<&str> {
    let plain = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    (text.len() == length && text.bytes().all(plain)).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    const SPAN: &str = "00f067aa0ba902b7";

    #[test]
    fn only_what_the_standard_allows_is_taken() {
        let good = format!("00-{TRACE}-{SPAN}-01");
        let cases = [
            ("sampled", good.clone(), Some(good.clone())),
            (
                "not sampled",
                format!("00-{TRACE}-{SPAN}-00"),
                Some(format!("00-{TRACE}-{SPAN}-00")),
            ),
            (
                "unknown flags are dropped",
                format!("00-{TRACE}-{SPAN}-ff"),
                Some(good.clone()),
            ),
            (
                "a later version with more fields",
                format!("01-{TRACE}-{SPAN}-01-what"),
                Some(good),
            ),
            (
                "more fields in this one",
                format!("00-{TRACE}-{SPAN}-01-what"),
                None,
            ),
            ("version ff", format!("ff-{TRACE}-{SPAN}-01"), None),
            (
                "capitals",
                format!("00-{}-{SPAN}-01", TRACE.to_uppercase()),
                None,
            ),
            ("no trace", format!("00-{}-{SPAN}-01", "0".repeat(32)), None),
            ("no span", format!("00-{TRACE}-{}-01", "0".repeat(16)), None),
            ("too short", format!("00-{TRACE}-{SPAN}"), None),
            ("too long", format!("00-{TRACE}a-{SPAN}-01"), None),
            ("a sign", format!("00-{TRACE}-{SPAN}-+1"), None),
            ("nothing", String::new(), None),
        ];
        for (name, text, want) in cases {
            let got = Traceparent::parse(&text);
            assert_eq!(
                got.as_ref().map(Traceparent::as_str),
                want.as_deref(),
                "{name}"
            );
        }
    }
}
