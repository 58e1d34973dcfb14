//! Query parameters: known ones, each at most once, so that a mistyped one is told and not passed over. Pure.

use std::collections::BTreeMap;

use http::Uri;

use super::problem::Problem;

/// The parameters of a request.
#[derive(Debug)]
pub(super) struct Query(BTreeMap<String, String>);

impl Query {
    /// Reads them.
    ///
    /// # Errors
    /// 400 for one that is unknown here or there twice.
    pub(super) fn parse(uri: &Uri, known: &[&str]) -> Result<Self, Problem> {
        let mut all = BTreeMap::new();
        for (name, value) in url::form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes())
        {
            let name: String = name.chars().take(64).collect();
            if !known.contains(&name.as_str()) {
                let detail = format!(
                    "There is no such query parameter here; there are: {}.",
                    known.join(", ")
                );
                return Err(Problem::bad_request(name, detail));
            }
            if all.insert(name.clone(), value.into_owned()).is_some() {
                return Err(Problem::bad_request(
                    name,
                    "Send this query parameter once.",
                ));
            }
        }
        Ok(Self(all))
    }

    /// One of them.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_known_and_there_once() {
        let cases = [
            ("/x", Some(None)),
            ("/x?wait=1s", Some(Some("1s"))),
            ("/x?wait=%31s", Some(Some("1s"))),
            ("/x?wait=", Some(Some(""))),
            ("/x?wiat=1s", None),
            ("/x?wait=1s&wait=2s", None),
        ];
        for (uri, want) in cases {
            let query = Query::parse(&Uri::from_static(uri), &["wait"]).ok();
            assert_eq!(query.as_ref().map(|q| q.get("wait")), want, "{uri}");
        }
    }
}
